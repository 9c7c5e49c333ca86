//! The network between the controller and one host, which can be cut.
//!
//! A relay on loopback: the controller connects to it instead of the host. Cut, it takes in what both sides send and
//! passes nothing on, which is what both see of a network that is gone: neither an answer nor an end.
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a thread that waits for bytes looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);

/// A link that can be cut, healed and broken.
pub struct Link {
    address: SocketAddrV4,
    state: Arc<State>,
}

struct State {
    to: SocketAddrV4,
    /// Nothing passes, and nobody is told.
    silent: AtomicBool,
    /// Bytes from the host that may still pass before every connection is closed.
    allowance: AtomicU64,
    /// Bytes from the host after which a connection is closed, each on its own.
    lifetime: AtomicU64,
    /// Bytes a second that pass from the host.
    rate: AtomicU64,
    /// How long each byte is on its way, in either direction, in microseconds; for connections from now on.
    delay_us: AtomicU64,
    /// Bytes that came from the host.
    passed: AtomicU64,
    over: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

impl Link {
    /// A link to an address.
    ///
    /// # Panics
    /// When no socket can be had.
    pub fn to(to: SocketAddrV4) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket for the link");
        let address = match listener.local_addr().expect("a bound socket has an address") {
            std::net::SocketAddr::V4(address) => address,
            std::net::SocketAddr::V6(_) => unreachable!("it was bound to an address of version 4"),
        };
        let state = Arc::new(State {
            to,
            silent: AtomicBool::new(false),
            allowance: AtomicU64::new(u64::MAX),
            lifetime: AtomicU64::new(u64::MAX),
            rate: AtomicU64::new(u64::MAX),
            delay_us: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            over: AtomicBool::new(false),
            open: Mutex::default(),
        });
        let accepting = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                if let Ok(stream) = stream {
                    accepting.relay(stream);
                }
            }
        });
        Link { address, state }
    }

    /// Where the controller is to connect.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// From now on nothing passes: open connections stand still, new ones are taken and get no answer.
    pub fn cut(&self) {
        self.state.silent.store(true, Ordering::SeqCst);
    }

    /// From now on everything passes again, also what waits in open connections.
    pub fn heal(&self) {
        self.state.silent.store(false, Ordering::SeqCst);
    }

    /// Closes every connection once so many more bytes have come from the host; later connections are not counted.
    pub fn break_after(&self, bytes: u64) {
        self.state.allowance.store(bytes, Ordering::SeqCst);
    }

    /// From now on each new connection is closed once so many bytes have come over it from the host.
    pub fn break_each_after(&self, bytes: u64) {
        self.state.lifetime.store(bytes, Ordering::SeqCst);
    }

    /// From now on no more bytes a second come from the host, of each connection.
    pub fn slow_down(&self, bytes_per_second: u64) {
        self.state.rate.store(bytes_per_second, Ordering::SeqCst);
    }

    /// From now on each byte of a new connection is that long on its way, there and back.
    pub fn delay(&self, one_way: Duration) {
        let us = u64::try_from(one_way.as_micros()).unwrap_or(u64::MAX);
        self.state.delay_us.store(us, Ordering::SeqCst);
    }

    /// How many bytes have come from the host, of all connections.
    pub fn passed(&self) -> u64 {
        self.state.passed.load(Ordering::SeqCst)
    }

    /// Closes every open connection.
    pub fn break_now(&self) {
        self.state.close_all();
    }
}

impl State {
    fn relay(self: &Arc<Self>, client: TcpStream) {
        let Ok(host) = TcpStream::connect(self.to) else { return };
        // The relay is not to add delays of its own.
        let _ = client.set_nodelay(true).and_then(|()| host.set_nodelay(true));
        let pair = [(&client, &host, false), (&host, &client, true)];
        for (from, to, counts) in pair {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let state = Arc::clone(self);
            std::thread::spawn(move || state.copy(from, to, counts));
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.extend([client, host]);
    }

    /// What comes waits on its way while more comes.
    fn copy_late(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
        let (ahead, behind) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        std::thread::spawn(move || {
            for (due, bytes) in behind {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if to.write_all(&bytes).is_err() {
                    break;
                }
            }
            let _ = to.shutdown(Shutdown::Write);
        });
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if ahead.send((Instant::now() + delay, buffer[..n].to_vec())).is_err() {
                break;
            }
        }
    }

    fn copy(&self, mut from: TcpStream, mut to: TcpStream, counts: bool) {
        let delay = Duration::from_micros(self.delay_us.load(Ordering::SeqCst));
        if !delay.is_zero() {
            return Self::copy_late(from, to, delay);
        }
        let mut buffer = vec![0; 16 * 1024];
        let mut lifetime = if counts { self.lifetime.load(Ordering::SeqCst) } else { u64::MAX };
        // When the line is free for the next bytes.
        let mut free = Instant::now();
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            while self.silent.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
                std::thread::sleep(LOOK);
            }
            let mut pass = n;
            let mut used_up = false;
            if counts {
                let left = self.allowance.load(Ordering::SeqCst);
                if left != u64::MAX {
                    pass = usize::try_from(left).unwrap_or(usize::MAX).min(n);
                    used_up = pass < n || left == n as u64;
                    self.allowance.store(left - pass as u64, Ordering::SeqCst);
                }
            }
            pass = usize::try_from(lifetime).unwrap_or(usize::MAX).min(pass);
            lifetime = lifetime.saturating_sub(if lifetime == u64::MAX { 0 } else { pass as u64 });
            if to.write_all(&buffer[..pass]).is_err() {
                break;
            }
            if lifetime == 0 {
                let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                break;
            }
            if counts {
                self.passed.fetch_add(pass as u64, Ordering::SeqCst);
                let rate = self.rate.load(Ordering::SeqCst);
                if rate != u64::MAX {
                    // From one packet to the next, so that what was slept too long is not slept again.
                    free += Duration::from_secs_f64(pass as f64 / rate as f64);
                    let now = Instant::now();
                    free = free.max(now - LOOK);
                    std::thread::sleep(free.saturating_duration_since(now));
                }
            }
            if used_up {
                self.allowance.store(u64::MAX, Ordering::SeqCst);
                self.close_all();
                break;
            }
        }
        // The end of one side is passed on, unless the network is gone.
        while self.silent.load(Ordering::SeqCst) && !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(LOOK);
        }
        let _ = to.shutdown(Shutdown::Write);
    }

    fn close_all(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.state.close_all();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}
