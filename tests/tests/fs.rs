//! Files: std's behaviour, what costs a hop to the pool, and what a kill leaves behind.

use bast::fs::{self, File, OpenOptions};
use bast::{BlockedOn, Runtime};
use bast_server::file::Files;
use bast_server::{Server, Settings};
use bast_tests::{deadline, on_capabilities, sys, until, until_blocked};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

fn off_loads(what: BlockedOn) -> bool {
    what == BlockedOn::Offload
}

fn reads(what: BlockedOn) -> bool {
    matches!(what, BlockedOn::Read(_))
}

/// A directory of a test's own, removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        Scratch::below(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    fn below(parent: &Path) -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("bast-fs-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A runtime of one capability with a pool of one thread.
fn with_small_pool<T: Send + 'static>(main: impl FnOnce() -> T + Send + 'static) -> T {
    deadline(|| {
        let builder = Runtime::builder().capabilities(1).offload_threads(1);
        builder.build().expect("a runtime can be built").run(main)
    })
}

/// Occupies the pool's one thread until the sender is dropped.
fn occupy_pool() -> (mpsc::Sender<()>, bast::JoinHandle<()>) {
    let (end, wait) = mpsc::channel::<()>();
    let (begun, begins) = mpsc::channel();
    let thread = bast::spawn(move || {
        bast::offload(move || {
            begun.send(()).unwrap();
            let _ = wait.recv();
        });
    });
    until(|| begins.try_recv().is_ok());
    (end, thread)
}

/// How many jobs the pool has been given so far.
fn hops() -> u64 {
    let stats = bast::offload_stats();
    stats.finished + (stats.running + stats.queued) as u64
}

#[test]
fn a_file_is_read_and_written_as_with_std() {
    on_capabilities(2, || {
        let scratch = Scratch::new();
        let path = scratch.join("file");
        let mut file = File::create_new(&path).unwrap();
        assert_eq!(File::create_new(&path).unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_all(b"0123456789").unwrap();
        assert_eq!(file.stream_position().unwrap(), 10);
        let mut buf = [0; 4];
        assert_eq!(file.read(&mut buf).unwrap(), 0, "the end");
        assert_eq!(file.seek(SeekFrom::Start(2)).unwrap(), 2);
        file.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"2345");
        assert_eq!(file.seek(SeekFrom::End(-3)).unwrap(), 7);
        assert_eq!(file.seek(SeekFrom::Current(-1)).unwrap(), 6);
        assert_eq!(file.seek(SeekFrom::Current(-7)).unwrap_err().kind(), ErrorKind::InvalidInput);
        file.write_all(b"xy").unwrap();
        // Clones share the position; calls at an offset leave it alone.
        let mut clone = file.try_clone().unwrap();
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(file.write_at(b"A", 0).unwrap(), 1);
        let mut rest = String::new();
        clone.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "89");
        assert_eq!(file.stream_position().unwrap(), 10);
        assert_eq!(file.read_exact_at(&mut buf, 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.write_all_at(b"end", 10).unwrap();
        file.sync_all().unwrap();
        file.set_len(12).unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 12);
        file.set_permissions(fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);
        assert_eq!(std::fs::read(&path).unwrap(), b"A12345xy89en");

        let mut appended = OpenOptions::new().append(true).read(true).open(&path).unwrap();
        appended.write_all(b"++").unwrap();
        assert_eq!(appended.stream_position().unwrap(), 14);
        let taken_over = File::try_from(std::fs::File::open(&path).unwrap()).unwrap();
        assert_eq!((&taken_over).read_to_end(&mut Vec::new()).unwrap(), 14);
        assert_eq!(
            File::open(&scratch.0).unwrap().read(&mut buf).unwrap_err().kind(),
            ErrorKind::IsADirectory
        );
        assert_eq!(File::open(scratch.join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_file_taken_over_from_std_goes_on_at_its_position() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        std::fs::write(scratch.join("file"), "0123456789").unwrap();
        let mut file = std::fs::File::open(scratch.join("file")).unwrap();
        file.seek(SeekFrom::Start(7)).unwrap();
        let mut rest = String::new();
        File::try_from(file).unwrap().read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "789");
    });
}

#[test]
fn each_function_of_paths_does_what_that_of_std_does() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let path = |name: &str| scratch.join(name);
        fs::create_dir(path("a")).unwrap();
        fs::create_dir_all(path("a/b/c")).unwrap();
        assert_eq!(fs::create_dir(path("a")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        fs::write(path("a/file"), "text").unwrap();
        assert_eq!(fs::read(path("a/file")).unwrap(), b"text");
        assert_eq!(fs::read_to_string(path("a/file")).unwrap(), "text");
        assert_eq!(fs::copy(path("a/file"), path("a/copy")).unwrap(), 4);
        fs::rename(path("a/copy"), path("a/b/moved")).unwrap();
        fs::hard_link(path("a/file"), path("a/hard")).unwrap();
        fs::symlink("file", path("a/soft")).unwrap();
        assert_eq!(fs::read_link(path("a/soft")).unwrap(), Path::new("file"));
        assert_eq!(fs::canonicalize(path("a/soft")).unwrap(), path("a/file").canonicalize().unwrap());
        assert_eq!(fs::metadata(path("a/soft")).unwrap().nlink(), 2);
        assert!(fs::symlink_metadata(path("a/soft")).unwrap().is_symlink());
        assert!(fs::try_exists(path("a/b/moved")).unwrap());
        assert!(!fs::try_exists(path("a/copy")).unwrap());
        fs::set_permissions(path("a/file"), fs::Permissions::from_mode(0o400)).unwrap();
        assert!(fs::metadata(path("a/hard")).unwrap().permissions().readonly());
        fs::remove_file(path("a/hard")).unwrap();
        assert_eq!(fs::remove_dir(path("a/b")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_dir(path("a/b/c")).unwrap();
        fs::remove_dir_all(path("a")).unwrap();
        assert_eq!(fs::read_dir(path("a")).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn a_directory_is_read_in_batches_and_each_entry_comes_once() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        for number in 0..1000 {
            std::fs::write(scratch.join(&format!("{number}")), "").unwrap();
        }
        std::fs::create_dir(scratch.join("folder")).unwrap();
        let before = hops();
        let entries: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(Result::unwrap).collect();
        assert_eq!(hops() - before, 4, "256 entries a hop");
        let mut names: Vec<_> =
            entries.iter().map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        let mut expected: Vec<_> = (0..1000).map(|number| number.to_string()).collect();
        expected.push("folder".into());
        expected.sort();
        assert_eq!(names, expected);
        let folder = entries.iter().find(|entry| entry.file_name() == "folder").unwrap();
        assert!(folder.file_type().unwrap().is_dir());
        assert!(folder.metadata().unwrap().is_dir());
        assert_eq!(folder.path(), scratch.join("folder"));
        assert_eq!(entries.iter().filter(|entry| entry.file_type().unwrap().is_file()).count(), 1000);
    });
}

#[test]
fn what_is_cached_is_read_in_place_and_what_is_not_by_the_pool() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let content: Vec<u8> = (0..1 << 20).map(|index: u32| (index % 251) as u8).collect();
        std::fs::write(scratch.join("file"), &content).unwrap();
        let mut file = File::open(scratch.join("file")).unwrap();
        let mut buf = vec![0; 4096];

        sys::evict(&std::fs::File::open(scratch.join("file")).unwrap());
        let before = hops();
        let cold = file.try_read_at(&mut buf, 8192).unwrap();
        assert_eq!(hops(), before, "the attempt costs no hop");
        assert_eq!(file.read_at(&mut buf, 8192).unwrap(), 4096);
        assert_eq!(buf, content[8192..][..4096]);
        // One at the most: the attempt may have made the kernel read ahead.
        assert!(hops() - before <= u64::from(cold.is_none()));
        // It is cached now, if the file system can tell.
        if file.try_read_at(&mut buf, 8192).unwrap().is_some() {
            let before = hops();
            assert_eq!(bast::no_park(|| file.read_at(&mut buf, 8192)).unwrap(), 4096);
            assert_eq!(hops(), before);
        }
        sys::evict(&std::fs::File::open(scratch.join("file")).unwrap());
        let mut read = Vec::new();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, content);
        let before = hops();
        assert_eq!(file.read(&mut buf).unwrap(), 0);
        assert_eq!(file.try_read_at(&mut buf, u64::MAX >> 2).unwrap(), Some(0));
        assert_eq!(hops(), before, "the end costs no hop");
        assert_eq!(file.read_at(&mut buf, u64::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_file_in_memory_is_read_in_place_from_the_second_time_on() {
    let shm = Path::new("/dev/shm");
    if !shm.is_dir() {
        return;
    }
    on_capabilities(1, move || {
        let scratch = Scratch::below(shm);
        std::fs::write(scratch.join("file"), "0123456789").unwrap();
        let file = File::open(scratch.join("file")).unwrap();
        let mut buf = [0; 4];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
        let before = hops();
        assert_eq!(file.read_at(&mut buf, 6).unwrap(), 4);
        assert_eq!(&buf, b"6789");
        assert_eq!(file.try_read_at(&mut buf, 1).unwrap(), Some(4));
        assert_eq!(hops(), before);
    });
}

#[test]
fn a_file_that_the_kernel_makes_up_is_read_by_the_pool() {
    on_capabilities(1, || {
        let mut file = File::open("/proc/self/status").unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("Name:"), "{text}");
    });
}

#[test]
fn outside_a_runtime_files_block_the_os_thread_as_with_std() {
    deadline(|| {
        let scratch = Scratch::new();
        let path = scratch.join("file");
        let mut file = OpenOptions::new().read(true).write(true).create(true).open(&path).unwrap();
        file.write_all(b"outside").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "outside");
        sys::evict(&std::fs::File::open(&path).unwrap());
        let mut buf = [0; 3];
        file.read_exact_at(&mut buf, 4).unwrap();
        assert_eq!(&buf, b"ide");
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
        fs::remove_file(&path).unwrap();
        let fifo = scratch.join("fifo");
        sys::make_fifo(&fifo);
        let writer = std::thread::spawn({
            let fifo = fifo.clone();
            move || std::fs::write(fifo, "through").unwrap()
        });
        assert_eq!(fs::read(&fifo).unwrap(), b"through");
        writer.join().unwrap();
    });
}

#[test]
fn each_call_dies_in_its_wait_for_the_pool_and_does_nothing_afterwards() {
    type Call = fn(&Path, &File);
    // None of these leaves a trace if it is withdrawn from the queue; each would if it were made.
    let calls: [(&str, Call); 14] = [
        ("open", |path, _| drop(File::create(path.join("made")))),
        ("write", |_, mut file| file.write_all(b"changed").unwrap()),
        ("write_at", |_, file| file.write_all_at(b"changed", 3).unwrap()),
        ("set_len", |_, file| file.set_len(1).unwrap()),
        ("sync", |_, file| file.sync_all().unwrap()),
        ("metadata", |_, file| drop(file.metadata())),
        ("seek", |_, mut file| drop(file.seek(SeekFrom::End(0)))),
        ("fs::write", |path, _| fs::write(path.join("file"), "changed").unwrap()),
        ("fs::read", |path, _| drop(fs::read(path.join("file")))),
        ("fs::rename", |path, _| fs::rename(path.join("file"), path.join("made")).unwrap()),
        ("fs::remove_file", |path, _| fs::remove_file(path.join("file")).unwrap()),
        ("fs::create_dir_all", |path, _| fs::create_dir_all(path.join("made")).unwrap()),
        ("fs::copy", |path, _| drop(fs::copy(path.join("file"), path.join("made")))),
        ("fs::read_dir", |path, _| drop(fs::read_dir(path))),
    ];
    for (name, call) in calls {
        with_small_pool(move || {
            let scratch = Arc::new(Scratch::new());
            std::fs::write(scratch.join("file"), "0123456789").unwrap();
            let file = OpenOptions::new().read(true).write(true).open(scratch.join("file")).unwrap();
            let (end, occupant) = occupy_pool();
            let thread = bast::spawn({
                let (scratch, file) = (Arc::clone(&scratch), file.try_clone().unwrap());
                move || call(&scratch.0, &file)
            });
            until_blocked(2, off_loads);
            thread.thread().kill();
            assert!(thread.join().unwrap_err().is_killed(), "{name}");
            drop(end);
            occupant.join().unwrap();
            // The pool is first come, first served: whatever was left would be done before this.
            bast::offload(|| ());
            assert_eq!(std::fs::read(scratch.join("file")).unwrap(), b"0123456789", "{name}");
            assert!(!scratch.join("made").exists(), "{name}");
            assert_eq!((&file).stream_position().unwrap(), 0, "{name}");
            let mut text = String::new();
            (&file).read_to_string(&mut text).unwrap();
            assert_eq!(text, "0123456789", "{name}");
        });
    }
}

#[test]
fn a_reader_that_is_killed_leaves_the_position_and_the_next_reader_gets_its_bytes() {
    with_small_pool(|| {
        // Of a kind that is never read in place.
        let file = File::open("/proc/self/maps").unwrap();
        let (end, occupant) = occupy_pool();
        let reader = |file: &File| {
            let mut file = file.try_clone().unwrap();
            bast::spawn(move || {
                let mut buf = [0; 8];
                file.read_exact(&mut buf).unwrap();
                buf
            })
        };
        let first = reader(&file);
        until_blocked(2, off_loads);
        let second = reader(&file);
        // It waits behind the first, for the position.
        until_blocked(1, |what| what == BlockedOn::Mutex);
        first.thread().kill();
        assert!(first.join().unwrap_err().is_killed());
        drop(end);
        occupant.join().unwrap();
        let bytes = second.join().unwrap();
        let mut again = [0; 8];
        file.read_exact_at(&mut again, 0).unwrap();
        assert_eq!(bytes, again);
        assert_eq!((&file).stream_position().unwrap(), 8);
    });
}

#[test]
fn in_no_park_a_call_that_needs_the_pool_panics_before_it_has_an_effect() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let path = scratch.join("file");
        assert!(catch_unwind(AssertUnwindSafe(|| bast::no_park(|| fs::write(&path, "x")))).is_err());
        assert!(!path.exists());
    });
}

#[test]
fn opening_a_fifo_waits_for_its_peer_without_holding_the_core() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let fifo = scratch.join("fifo");
        sys::make_fifo(&fifo);
        let reader = bast::spawn({
            let fifo = fifo.clone();
            move || {
                let mut text = String::new();
                File::open(fifo).unwrap().read_to_string(&mut text).unwrap();
                text
            }
        });
        until_blocked(1, off_loads);
        bast::sleep(Duration::from_millis(1));
        assert!(!reader.is_finished());
        let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
        // What it waits for now is the pipe, by the io manager, and not a thread of the pool.
        until_blocked(1, reads);
        until(|| bast::offload_stats().running == 0);
        writer.write_all(b"one, ").unwrap();
        until_blocked(1, reads);
        writer.write_all(b"two").unwrap();
        drop(writer);
        assert_eq!(reader.join().unwrap(), "one, two");
    });
}

#[test]
fn a_killed_reader_of_a_fifo_takes_no_bytes_with_it() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let fifo = scratch.join("fifo");
        sys::make_fifo(&fifo);
        // For reading and writing, an open waits for nobody (fifo(7)).
        let mut both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let reader = bast::spawn({
            let mut both = both.try_clone().unwrap();
            move || both.read(&mut [0; 8])
        });
        until_blocked(1, reads);
        reader.thread().kill();
        assert!(reader.join().unwrap_err().is_killed());
        both.write_all(b"bytes").unwrap();
        let mut buf = [0; 8];
        assert_eq!(both.read(&mut buf).unwrap(), 5);
        assert_eq!(&buf[..5], b"bytes");
        assert_eq!(both.stream_position().unwrap_err().kind(), ErrorKind::NotSeekable);
        assert_eq!(both.read_at(&mut buf, 0).unwrap_err().kind(), ErrorKind::NotSeekable);
        assert!(!both.metadata().unwrap().is_file());
    });
}

#[test]
fn a_writer_to_a_full_fifo_parks_and_goes_on_when_there_is_room() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let fifo = scratch.join("fifo");
        sys::make_fifo(&fifo);
        let mut both = OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
        let content: Vec<u8> = (0..300_000u32).map(|index| index as u8).collect();
        let writer = bast::spawn({
            let (mut both, content) = (both.try_clone().unwrap(), content.clone());
            move || both.write_all(&content).unwrap()
        });
        until_blocked(1, |what| matches!(what, BlockedOn::Write(_)));
        let mut read = vec![0; content.len()];
        both.read_exact(&mut read).unwrap();
        writer.join().unwrap();
        assert_eq!(read, content);
    });
}

#[test]
fn an_abandoned_open_closes_what_it_opens() {
    on_capabilities(1, || {
        let scratch = Scratch::new();
        let fifo = scratch.join("fifo");
        sys::make_fifo(&fifo);
        let opener = bast::spawn({
            let fifo = fifo.clone();
            move || drop(File::open(fifo))
        });
        until(|| bast::offload_stats().running == 1);
        until_blocked(1, off_loads);
        opener.thread().kill();
        assert!(opener.join().unwrap_err().is_killed());
        // It is in open(2), or will be: the peer's open ends it. Its reading end is closed at once, and then the pipe
        // has no reader any more.
        let mut writer = OpenOptions::new().write(true).open(&fifo).unwrap();
        until(|| bast::offload_stats().running == 0);
        assert_eq!(writer.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn two_cores_append_to_one_file_and_no_line_is_torn() {
    on_capabilities(2, || {
        let scratch = Scratch::new();
        let path = scratch.join("log");
        let file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let threads: Vec<_> = (0..20)
            .map(|number| {
                let mut file = file.try_clone().unwrap();
                bast::spawn(move || {
                    for line in 0..20 {
                        file.write_all(format!("{number:02} {line:02}\n").as_bytes()).unwrap();
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        let expected: Vec<_> = (0..400).map(|index| format!("{:02} {:02}", index / 20, index % 20)).collect();
        assert_eq!(lines, expected);
        assert_eq!((&file).stream_position().unwrap(), 2400);
    });
}

#[test]
fn a_server_sends_files_that_are_not_cached_in_the_order_of_their_requests() {
    deadline(|| {
        let scratch = Scratch::new();
        let (first, second) = ("1".repeat(100), "2".repeat(10_000));
        std::fs::write(scratch.join("first"), &first).unwrap();
        std::fs::write(scratch.join("second"), &second).unwrap();
        let settings = Settings { workers: Some(1), handle_signals: false, ..Settings::default() };
        let server = Server::bind("127.0.0.1:0").unwrap().settings(settings);
        let (address, handle) = (server.local_addr().unwrap(), server.handle());
        let files = Files::open(&scratch.0).unwrap();
        let served = std::thread::spawn(move || server.serve(files));
        for _ in 0..5 {
            sys::evict(&std::fs::File::open(scratch.join("second")).unwrap());
            let mut client = std::net::TcpStream::connect(address).unwrap();
            let get = |name: &str| format!("GET /{name} HTTP/1.1\r\nhost: x\r\n\r\n");
            client.write_all((get("first") + &get("second") + &get("first")).as_bytes()).unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answers = String::new();
            client.read_to_string(&mut answers).unwrap();
            let answers: Vec<_> = answers.split("HTTP/1.1 200 OK\r\n").skip(1).collect();
            let bodies: Vec<_> =
                answers.iter().map(|answer| answer.split_once("\r\n\r\n").unwrap().1).collect();
            assert_eq!(bodies, [&*first, &*second, &*first]);
        }
        handle.shutdown();
        served.join().unwrap().unwrap();
    });
}
