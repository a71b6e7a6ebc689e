#![forbid(unsafe_code)]
//! What a parked thread waits for, as one word that anybody may read.

use super::ThreadId;
use std::fmt;

/// What a blocked thread waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockedOn {
    /// The clock: it sleeps.
    Timer,
    /// Bytes from a descriptor.
    Read(i32),
    /// Room in a descriptor.
    Write(i32),
    /// A connection on a listening socket.
    Accept(i32),
    /// A connection that is being made.
    Connect(i32),
    /// Another thread that uses the same direction of the same descriptor.
    Direction(i32),
    /// The end of a thread.
    Join(ThreadId),
    /// A mutex.
    Mutex,
    /// A condition variable.
    Condvar,
    /// An empty MVar (or, to put, a full one).
    MVar,
    /// An empty channel.
    Receive,
    /// A full channel.
    Send,
    /// A signal.
    Signal,
    /// A reader-writer lock.
    RwLock,
    /// A semaphore's permits.
    Semaphore,
    /// The other threads of a barrier.
    Barrier,
    /// An initialisation that another thread is doing.
    Once,
    /// The first of several things.
    Select,
    /// Work that an OS thread of the pool does.
    Offload,
    /// The end of a process.
    Process,
    /// A future.
    Future,
    /// A thread that is to receive an exception.
    ThrowTo(ThreadId),
    /// The threads of a scope.
    Scope,
}

const KIND_SHIFT: u32 = 56;

fn fd_bits(fd: i32) -> u64 {
    u64::from(fd.cast_unsigned())
}

impl BlockedOn {
    /// Packs the reason; 0 is no reason.
    #[inline]
    pub(crate) fn pack(self) -> u64 {
        let (kind, detail) = match self {
            BlockedOn::Timer => (1, 0),
            BlockedOn::Read(fd) => (2, fd_bits(fd)),
            BlockedOn::Write(fd) => (3, fd_bits(fd)),
            BlockedOn::Accept(fd) => (4, fd_bits(fd)),
            BlockedOn::Connect(fd) => (5, fd_bits(fd)),
            BlockedOn::Direction(fd) => (6, fd_bits(fd)),
            BlockedOn::Join(id) => (7, id.get()),
            BlockedOn::Mutex => (8, 0),
            BlockedOn::Condvar => (9, 0),
            BlockedOn::MVar => (10, 0),
            BlockedOn::Receive => (11, 0),
            BlockedOn::Send => (12, 0),
            BlockedOn::Signal => (13, 0),
            BlockedOn::RwLock => (14, 0),
            BlockedOn::Semaphore => (15, 0),
            BlockedOn::Barrier => (16, 0),
            BlockedOn::Once => (17, 0),
            BlockedOn::Select => (18, 0),
            BlockedOn::Offload => (19, 0),
            BlockedOn::Process => (20, 0),
            BlockedOn::Future => (21, 0),
            BlockedOn::ThrowTo(id) => (22, id.get()),
            BlockedOn::Scope => (23, 0),
        };
        kind << KIND_SHIFT | detail & ((1 << KIND_SHIFT) - 1)
    }

    /// Packs a mutex whose word is at `address`. [`unpack`](BlockedOn::unpack) leaves the address out.
    pub(crate) fn pack_mutex(address: usize) -> u64 {
        let address = address as u64;
        debug_assert!(address >> KIND_SHIFT == 0, "block: user space ends far below");
        BlockedOn::Mutex.pack() | address
    }

    /// The address that [`pack_mutex`](BlockedOn::pack_mutex) was given.
    pub(crate) fn unpack_mutex(word: u64) -> Option<usize> {
        let address = word & ((1 << KIND_SHIFT) - 1);
        (word - address == BlockedOn::Mutex.pack() && address != 0).then_some(address as usize)
    }

    /// Whether only another thread can end the wait: not the clock, the kernel or an OS thread's work.
    pub(crate) fn is_for_a_thread(self) -> bool {
        match self {
            BlockedOn::Direction(_)
            | BlockedOn::Join(_)
            | BlockedOn::Mutex
            | BlockedOn::Condvar
            | BlockedOn::MVar
            | BlockedOn::Receive
            | BlockedOn::Send
            | BlockedOn::RwLock
            | BlockedOn::Semaphore
            | BlockedOn::Barrier
            | BlockedOn::Once
            | BlockedOn::ThrowTo(_)
            | BlockedOn::Scope => true,
            BlockedOn::Timer
            | BlockedOn::Read(_)
            | BlockedOn::Write(_)
            | BlockedOn::Accept(_)
            | BlockedOn::Connect(_)
            | BlockedOn::Signal
            // Descriptors and timers may be among the things.
            | BlockedOn::Select
            | BlockedOn::Offload
            | BlockedOn::Process
            | BlockedOn::Future => false,
        }
    }

    /// The reason in a packed word.
    pub(crate) fn unpack(word: u64) -> Option<BlockedOn> {
        let detail = word & ((1 << KIND_SHIFT) - 1);
        let fd = detail as i32;
        Some(match word >> KIND_SHIFT {
            1 => BlockedOn::Timer,
            2 => BlockedOn::Read(fd),
            3 => BlockedOn::Write(fd),
            4 => BlockedOn::Accept(fd),
            5 => BlockedOn::Connect(fd),
            6 => BlockedOn::Direction(fd),
            7 => BlockedOn::Join(ThreadId::from_raw(detail)?),
            8 => BlockedOn::Mutex,
            9 => BlockedOn::Condvar,
            10 => BlockedOn::MVar,
            11 => BlockedOn::Receive,
            12 => BlockedOn::Send,
            13 => BlockedOn::Signal,
            14 => BlockedOn::RwLock,
            15 => BlockedOn::Semaphore,
            16 => BlockedOn::Barrier,
            17 => BlockedOn::Once,
            18 => BlockedOn::Select,
            19 => BlockedOn::Offload,
            20 => BlockedOn::Process,
            21 => BlockedOn::Future,
            22 => BlockedOn::ThrowTo(ThreadId::from_raw(detail)?),
            23 => BlockedOn::Scope,
            _ => return None,
        })
    }
}

impl fmt::Display for BlockedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockedOn::Timer => f.write_str("timer"),
            BlockedOn::Read(fd) => write!(f, "read fd {fd}"),
            BlockedOn::Write(fd) => write!(f, "write fd {fd}"),
            BlockedOn::Accept(fd) => write!(f, "accept fd {fd}"),
            BlockedOn::Connect(fd) => write!(f, "connect fd {fd}"),
            BlockedOn::Direction(fd) => write!(f, "another user of fd {fd}"),
            BlockedOn::Join(id) => write!(f, "join thread {id}"),
            BlockedOn::Mutex => f.write_str("mutex"),
            BlockedOn::Condvar => f.write_str("condvar"),
            BlockedOn::MVar => f.write_str("MVar"),
            BlockedOn::Receive => f.write_str("channel receive"),
            BlockedOn::Send => f.write_str("channel send"),
            BlockedOn::Signal => f.write_str("signal"),
            BlockedOn::RwLock => f.write_str("rwlock"),
            BlockedOn::Semaphore => f.write_str("semaphore"),
            BlockedOn::Barrier => f.write_str("barrier"),
            BlockedOn::Once => f.write_str("once"),
            BlockedOn::Select => f.write_str("select"),
            BlockedOn::Offload => f.write_str("offload"),
            BlockedOn::Process => f.write_str("process"),
            BlockedOn::Future => f.write_str("future"),
            BlockedOn::ThrowTo(id) => write!(f, "throw to thread {id}"),
            BlockedOn::Scope => f.write_str("scope"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_packing() {
        let id = ThreadId::from_raw(1 << 40).unwrap();
        for reason in [
            BlockedOn::Timer,
            BlockedOn::Read(7),
            BlockedOn::Write(i32::MAX),
            BlockedOn::Accept(3),
            BlockedOn::Connect(4),
            BlockedOn::Direction(5),
            BlockedOn::Join(id),
            BlockedOn::Mutex,
            BlockedOn::Condvar,
            BlockedOn::MVar,
            BlockedOn::Receive,
            BlockedOn::Send,
            BlockedOn::Signal,
            BlockedOn::RwLock,
            BlockedOn::Semaphore,
            BlockedOn::Barrier,
            BlockedOn::Once,
            BlockedOn::Select,
            BlockedOn::Offload,
            BlockedOn::Process,
            BlockedOn::Future,
            BlockedOn::ThrowTo(id),
            BlockedOn::Scope,
        ] {
            assert_eq!(BlockedOn::unpack(reason.pack()), Some(reason));
        }
        assert_eq!(BlockedOn::unpack(0), None);
    }

    #[test]
    fn the_address_of_a_mutex_survives_packing_and_is_no_other_reasons() {
        let word = BlockedOn::pack_mutex(0x7fff_1234_5678);
        assert_eq!(BlockedOn::unpack(word), Some(BlockedOn::Mutex));
        assert_eq!(BlockedOn::unpack_mutex(word), Some(0x7fff_1234_5678));
        assert_eq!(BlockedOn::unpack_mutex(BlockedOn::Mutex.pack()), None);
        assert_eq!(BlockedOn::unpack_mutex(BlockedOn::Read(7).pack()), None);
    }
}
