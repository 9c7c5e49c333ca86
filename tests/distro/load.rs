//! A steady load on this machine, which every host sees since all share its kernel.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use camino::{Utf8Path, Utf8PathBuf};

/// Goes on until it is dropped.
pub struct Load {
    stopped: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    file: Utf8PathBuf,
}

impl Load {
    /// Computes, writes to the disk of `directory`, sends over the loopback interface, logs to the kernel, and changes
    /// files in `watched`.
    pub fn start(directory: &Utf8Path, watched: Utf8PathBuf) -> Load {
        let stopped = Arc::new(AtomicBool::new(false));
        let file = directory.join("load");
        let disk = file.clone();
        let mut load = Load { stopped, threads: Vec::new(), file };
        load.repeat(Duration::from_millis(40), burn);
        load.repeat(Duration::from_millis(50), write_to(&disk));
        load.repeat(Duration::from_millis(10), send());
        load.repeat(Duration::from_millis(500), log);
        load.repeat(Duration::from_millis(200), move || {
            let file = watched.join("file");
            let _ = std::fs::write(&file, "x");
            let _ = std::fs::remove_file(file);
        });
        load
    }

    /// Does something again and again, with a pause in between.
    fn repeat(&mut self, pause: Duration, mut action: impl FnMut() + Send + 'static) {
        let stopped = Arc::clone(&self.stopped);
        self.threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                action();
                std::thread::sleep(pause);
            }
        }));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.file);
    }
}

fn burn() {
    let end = Instant::now() + Duration::from_millis(60);
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// Writes a MiB and flushes it, over and over the same part of the file.
fn write_to(path: &Utf8Path) -> impl FnMut() + Send + use<> {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
    let block = vec![1; 1 << 20];
    let mut written = 0;
    move || {
        if written == 32 {
            written = 0;
            file.rewind().expect("a file can be rewound");
        }
        written += 1;
        file.write_all(&block).expect("the disk has room for 32 MiB");
        file.sync_data().expect("a file can be flushed");
    }
}

/// Sends 64 KiB to a thread that reads them.
fn send() -> impl FnMut() + Send {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of the loopback interface");
    let mut sender = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection to it");
    let (mut receiver, _) = listener.accept().expect("the other end of it");
    // Ends when the sender is dropped.
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while matches!(receiver.read(&mut buffer), Ok(1..)) {}
    });
    let block = vec![1; 1 << 16];
    move || sender.write_all(&block).expect("the other end reads")
}

/// Adds a line to the kernel's log.
fn log() {
    if let Ok(mut kernel) = OpenOptions::new().write(true).open("/dev/kmsg") {
        let _ = kernel.write_all(b"<4>distro-test: load\n");
    }
}
