//! What the http bench can measure: the workloads, each with the question it answers.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

/// What lies behind a mode's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A constant of a few bytes.
    Constant,
    /// A static file of so many bytes.
    File(usize),
    /// A constant after this time.
    Delayed(Duration),
}

/// A workload.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// What `--mode` calls it.
    pub name: &'static str,
    /// What it tells.
    pub question: &'static str,
    /// The request target.
    pub path: &'static str,
    /// What that is.
    pub resource: Resource,
    /// Connections at a time.
    pub connections: usize,
    /// Requests sent at once on a connection.
    pub pipeline: usize,
    /// Whether connections are kept for further requests.
    pub keep_alive: bool,
    /// Requests per round, where that is part of the question; else rounds are as long as they need to be.
    pub requests: Option<u64>,
    /// Requests of a smoke test.
    pub requests_smoke: u64,
}

const PLAINTEXT: Mode = Mode {
    name: "keepalive",
    question: "what does a request cost on connections that stay open?",
    path: "/plaintext",
    resource: Resource::Constant,
    connections: 64,
    pipeline: 1,
    keep_alive: true,
    requests: None,
    requests_smoke: 10_000,
};

/// All workloads.
pub const MODES: [Mode; 10] = [
    PLAINTEXT,
    Mode {
        name: "pipelined",
        question: "what does a request cost where the system calls are shared by 16?",
        pipeline: 16,
        ..PLAINTEXT
    },
    Mode {
        name: "c1",
        question: "what does a request cost where each one has to wake the server?",
        connections: 1,
        requests_smoke: 2_000,
        ..PLAINTEXT
    },
    Mode {
        name: "c1000",
        question: "what do 1,000 connections of 100 requests each cost, their opening included?",
        connections: 1_000,
        requests: Some(100_000),
        ..PLAINTEXT
    },
    Mode {
        name: "close",
        question: "what does a connection of one request cost?",
        keep_alive: false,
        requests_smoke: 2_000,
        ..PLAINTEXT
    },
    Mode {
        name: "file",
        question: "what does a small static file cost?",
        path: "/index.html",
        resource: Resource::File(151),
        ..PLAINTEXT
    },
    Mode {
        name: "file4k",
        question: "what does a static file of one page cost?",
        path: "/4k.html",
        resource: Resource::File(4 << 10),
        ..PLAINTEXT
    },
    Mode {
        name: "file-c1",
        question: "does a file wait for the acknowledgment of its head?",
        connections: 1,
        path: "/4k.html",
        resource: Resource::File(4 << 10),
        requests_smoke: 500,
        ..PLAINTEXT
    },
    Mode {
        name: "large",
        question: "what does a static file of 1 MiB cost?",
        path: "/1m.bin",
        resource: Resource::File(1 << 20),
        requests_smoke: 256,
        ..PLAINTEXT
    },
    Mode {
        name: "sleep",
        question: "what does a request cost whose handler sleeps 10 ms beside 1,000 others?",
        path: "/sleep",
        resource: Resource::Delayed(Duration::from_millis(10)),
        connections: 1_000,
        requests_smoke: 4_000,
        ..PLAINTEXT
    },
];

impl Mode {
    /// The mode of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Mode> {
        MODES.into_iter().find(|mode| mode.name == name)
    }

    /// The body that a right response has, where the workload says so.
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        match self.resource {
            Resource::Constant => Some(b"Hello, World!".to_vec()),
            Resource::File(len) => Some((b'a'..=b'z').cycle().take(len).collect()),
            Resource::Delayed(_) => None,
        }
    }
}

/// Writes the static files of all modes below `root`.
///
/// # Errors
/// The file system's.
pub fn write_files(root: &Path) -> io::Result<()> {
    for mode in MODES {
        if let (Resource::File(_), Some(body)) = (mode.resource, mode.body()) {
            fs::write(root.join(&mode.path[1..]), body)?;
        }
    }
    Ok(())
}
