//! A command's channel: its packets, windows and end.
use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use autoprof_plugin::{
    bytes::{Buf as _, BufMut as _, BytesMut},
    prelude::*,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::unix::OwnedWriteHalf,
    sync::{Notify, Semaphore, mpsc, watch},
    time::timeout,
};

use crate::{
    master::{Lease, Master},
    mux::{Packets, packet, put_string, take_string, take_u32},
};

/// Messages of the SSH connection protocol (RFC 4254).
mod message {
    pub(super) const OPEN: u8 = 90;
    pub(super) const OPEN_CONFIRMATION: u8 = 91;
    pub(super) const OPEN_FAILURE: u8 = 92;
    pub(super) const WINDOW_ADJUST: u8 = 93;
    pub(super) const DATA: u8 = 94;
    pub(super) const EXTENDED_DATA: u8 = 95;
    pub(super) const EOF: u8 = 96;
    pub(super) const CLOSE: u8 = 97;
    pub(super) const REQUEST: u8 = 98;
    pub(super) const SUCCESS: u8 = 99;
    pub(super) const FAILURE: u8 = 100;
}

/// How much of a command's output may be on its way or wait to be read.
const WINDOW: u32 = 2 << 20;
/// So much is read before the host may send more.
const CREDIT: u32 = WINDOW / 4;
/// Most data in one packet.
const PIECE: usize = 32 << 10;
/// How much of a command's input may wait here for the master.
const AHEAD: usize = 256 << 10;
/// How long the master may take to say why the connection ended.
const REASON: Duration = Duration::from_millis(500);
/// Our number of the channel; each has a socket of its own.
const OURS: u32 = 0;

/// Why there is no channel.
pub(crate) enum NoChannel {
    /// The host wants no more of them on this connection.
    Refused(String),
    /// The host runs no commands.
    NoCommand,
    /// The connection ended.
    Gone,
}

/// How writing to a channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The command reads no more, or ended.
    Command,
    /// The connection ended.
    Connection,
}

/// What may be written.
#[derive(Debug, Default)]
struct Room {
    /// Bytes that the host takes now.
    window: usize,
    end: Option<End>,
}

/// What both halves and the two tasks of a channel share.
struct Shared {
    master: Arc<Master>,
    _lease: Lease,
    /// The host's number of the channel.
    theirs: u32,
    /// Most data that the host takes in one packet.
    piece: usize,
    room: watch::Sender<Room>,
    /// Bytes of output that wait for who reads them.
    unread: AtomicU32,
    /// None once the channel is closed: a packet for it would end the whole connection.
    packets: Mutex<Option<mpsc::UnboundedSender<Bytes>>>,
    /// Bytes of input that may still be queued.
    ahead: Arc<Semaphore>,
}

impl Shared {
    /// Queues a packet. Nobody takes it when the connection has ended, which is seen elsewhere.
    fn send(&self, kind: u8, payload: impl FnOnce(&mut BytesMut)) {
        if let Some(packets) = &*self.packets() {
            let _ = packets.send(packet(kind, |p| {
                p.put_u32(self.theirs);
                payload(p);
            }));
        }
    }

    /// Queues the last packet.
    fn close(&self) {
        self.send(message::CLOSE, |_| ());
        self.packets().take();
    }

    fn packets(&self) -> MutexGuard<'_, Option<mpsc::UnboundedSender<Bytes>>> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, end: End) {
        self.room.send_modify(|room| _ = room.end.get_or_insert(end));
    }
}

/// Tells the channel's reader that both halves are gone.
struct Halves(Arc<Notify>);

impl Drop for Halves {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// One thing out of a channel.
enum Event {
    Chunk(OutputChunk, u32),
    Status(ExitStatus),
    /// No more output.
    Eof,
    /// The host closed the channel.
    Closed,
}

/// A channel that the host has granted.
pub(crate) struct Granted {
    packets: Packets,
    write: OwnedWriteHalf,
    theirs: u32,
    room: Room,
    piece: usize,
    /// The channel counts for as long as this is held.
    lease: Lease,
}

/// Asks for a channel.
///
/// Not to be given up before the host has answered: OpenSSH (seen in 9.2) ends the whole connection with `no remote_id`
/// when the client of a channel goes away that is not open, be it not yet or because it was refused. So this belongs into
/// a task, and what was refused is kept by the master.
pub(crate) async fn open(
    (mut packets, mut write): (Packets, OwnedWriteHalf),
    lease: Lease,
) -> Result<Granted, NoChannel> {
    let open = packet(message::OPEN, |p| {
        put_string(p, b"session");
        p.put_u32(OURS);
        p.put_u32(WINDOW);
        p.put_u32(u32::try_from(PIECE).unwrap_or(u32::MAX));
    });
    write.write_all(&open).await.map_err(|_| NoChannel::Gone)?;
    loop {
        let (kind, mut payload) = next(&mut packets).await?;
        match (kind, take_u32(&mut payload)) {
            (message::OPEN_CONFIRMATION, Some(OURS)) if payload.len() >= 12 => {
                let (theirs, window) = (payload.get_u32(), payload.get_u32() as usize);
                let piece = PIECE.min(payload.get_u32().max(1) as usize);
                return Ok(Granted { packets, write, theirs, room: Room { window, end: None }, piece, lease });
            }
            (message::OPEN_FAILURE, _) => {
                let reason = take_u32(&mut payload).unwrap_or_default();
                let text = take_string(&mut payload).unwrap_or_default();
                let text = autoprof_plugin::core::text::one_line(&String::from_utf8_lossy(&text));
                lease.refused((packets, write));
                return Err(NoChannel::Refused(if text.is_empty() { format!("reason {reason}") } else { text }));
            }
            _ => {}
        }
    }
}

/// Starts a command on a channel.
pub(crate) async fn start(
    master: Arc<Master>,
    granted: Granted,
    line: &str,
    program: &str,
) -> Result<Process, NoChannel> {
    let Granted { mut packets, mut write, theirs, mut room, piece, lease } = granted;
    let exec = packet(message::REQUEST, |p| {
        p.put_u32(theirs);
        put_string(p, b"exec");
        p.put_u8(1);
        put_string(p, line.as_bytes());
    });
    write.write_all(&exec).await.map_err(|_| NoChannel::Gone)?;
    let mut early = Vec::new();
    loop {
        match next(&mut packets).await? {
            (message::SUCCESS, _) => break,
            (message::FAILURE, _) => return Err(NoChannel::NoCommand),
            (message::CLOSE, _) => return Err(NoChannel::Gone),
            (message::WINDOW_ADJUST, mut payload) => {
                let _ = take_u32(&mut payload);
                room.window = room.window.saturating_add(take_u32(&mut payload).unwrap_or_default() as usize);
            }
            other => early.push(other),
        }
    }

    let (to_master, queue) = mpsc::unbounded_channel();
    let (events, received) = mpsc::unbounded_channel();
    let ahead = Arc::new(Semaphore::new(AHEAD));
    let shared = Arc::new(Shared {
        master,
        _lease: lease,
        theirs,
        piece,
        room: watch::Sender::new(room),
        unread: AtomicU32::new(0),
        packets: Mutex::new(Some(to_master)),
        ahead: Arc::clone(&ahead),
    });
    let gone = Arc::new(Notify::new());
    tokio::spawn(write_all(queue, write, ahead));
    tokio::spawn(read_all(early, packets, Arc::clone(&shared), events, Arc::clone(&gone)));
    let halves = Arc::new(Halves(gone));
    let input = Input { shared: Arc::clone(&shared), open: true, _halves: Arc::clone(&halves) };
    let output = Output {
        shared,
        events: received,
        status: None,
        drained: false,
        read: 0,
        program: program.to_owned(),
        _halves: halves,
    };
    Ok(Process { input: Box::new(input), output: Box::new(output) })
}

async fn next(packets: &mut Packets) -> Result<(u8, Bytes), NoChannel> {
    packets.next().await.ok().flatten().ok_or(NoChannel::Gone)
}

/// Writes the packets of a channel, until nobody is left who could send one.
async fn write_all(mut queue: mpsc::UnboundedReceiver<Bytes>, mut write: OwnedWriteHalf, ahead: Arc<Semaphore>) {
    while let Some(packet) = queue.recv().await {
        if write.write_all(&packet).await.is_err() {
            // The reader sees the end of the socket, and wakes who waits.
            ahead.close();
            return;
        }
        ahead.add_permits(input_in(&packet));
    }
}

/// How many bytes of input are in a packet.
fn input_in(packet: &[u8]) -> usize {
    /// Length, padding, type, channel, length of the data.
    const HEAD: usize = 14;
    if packet.get(5) == Some(&message::DATA) { packet.len().saturating_sub(HEAD) } else { 0 }
}

/// Reads the packets of a channel. What waits for the command's reader is bounded by the channel's window, so that this
/// never waits for it, and word of the host's window is never held up.
async fn read_all(
    early: Vec<(u8, Bytes)>,
    mut packets: Packets,
    shared: Arc<Shared>,
    events: mpsc::UnboundedSender<Event>,
    gone: Arc<Notify>,
) {
    let mut early = early.into_iter();
    loop {
        let next = match early.next() {
            Some(packet) => Ok(Some(packet)),
            None => tokio::select! {
                next = packets.next() => next,
                () = gone.notified() => {
                    // The command goes on; the end of its input was sent when that half was dropped.
                    shared.close();
                    return;
                }
            },
        };
        let Ok(Some((kind, mut payload))) = next else {
            shared.end(End::Connection);
            return;
        };
        if take_u32(&mut payload) != Some(OURS) {
            continue;
        }
        let event = match kind {
            message::DATA => take_string(&mut payload).map(|data| chunk(data, OutputChunk::Stdout)),
            message::EXTENDED_DATA => {
                let _ = take_u32(&mut payload);
                take_string(&mut payload).map(|data| chunk(data, OutputChunk::Stderr))
            }
            message::WINDOW_ADJUST => {
                let more = take_u32(&mut payload).unwrap_or_default() as usize;
                shared.room.send_modify(|room| room.window = room.window.saturating_add(more));
                None
            }
            message::EOF => Some(Event::Eof),
            message::REQUEST => request(&shared, &mut payload),
            message::CLOSE => {
                shared.close();
                let _ = events.send(Event::Closed);
                shared.end(End::Command);
                return;
            }
            _ => None,
        };
        let Some(event) = event else { continue };
        if let Event::Chunk(_, length) = &event
            && shared.unread.fetch_add(*length, Relaxed) > WINDOW
        {
            // The host sends more than it was allowed to: nothing bounds what it would take here.
            shared.master.end();
            shared.end(End::Connection);
            return;
        }
        if let Err(unread) = events.send(event)
            && let Event::Chunk(_, length) = unread.0
        {
            // Nobody reads the output any more, and the command is not to be held up by that.
            shared.unread.fetch_sub(length, Relaxed);
            shared.send(message::WINDOW_ADJUST, |p| p.put_u32(length));
        }
    }
}

fn chunk(data: Bytes, stream: impl FnOnce(Bytes) -> OutputChunk) -> Event {
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    Event::Chunk(stream(data), length)
}

/// What the host says of a command.
fn request(shared: &Shared, payload: &mut Bytes) -> Option<Event> {
    let name = take_string(payload)?;
    let wants_reply = (!payload.is_empty()).then(|| payload.get_u8())? != 0;
    match &name[..] {
        b"exit-status" => {
            let code = take_u32(payload)?;
            Some(Event::Status(ExitStatus::Code(i32::try_from(code).unwrap_or(i32::MAX))))
        }
        b"exit-signal" => {
            let name = take_string(payload)?;
            let name = autoprof_plugin::core::text::one_line(&String::from_utf8_lossy(&name));
            Some(Event::Status(ExitStatus::Signal(name)))
        }
        // OpenSSH's server says that the command has closed its standard input.
        b"eow@openssh.com" => {
            shared.end(End::Command);
            None
        }
        _ => {
            if wants_reply {
                shared.send(message::FAILURE, |_| ());
            }
            None
        }
    }
}

/// A command's standard input.
struct Input {
    shared: Arc<Shared>,
    open: bool,
    _halves: Arc<Halves>,
}

impl Input {
    /// Waits until the host takes something, and says how much; no progress ends the connection.
    async fn room(&self) -> Result<usize, TransportError> {
        let limit = self.shared.master.write_timeout();
        let mut room = self.shared.room.subscribe();
        let granted = async {
            let (window, end) = match room.wait_for(|room| room.window > 0 || room.end.is_some()).await {
                Ok(room) => (room.window, room.end),
                Err(_) => (0, Some(End::Connection)),
            };
            let wanted = window.min(self.shared.piece);
            match end {
                Some(end) => Err(end),
                None => {
                    let permits = self.shared.ahead.acquire_many(u32::try_from(wanted).unwrap_or(u32::MAX)).await;
                    permits.map_err(|_| End::Connection).map(|permits| (wanted, permits.forget()).0)
                }
            }
        };
        match timeout(limit, granted).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(End::Command)) => {
                let place = self.shared.master.place();
                let message = format!("the command on {place} ended before it had read all of its input");
                Err(TransportError::new(TransportErrorKind::Closed, message))
            }
            Ok(Err(End::Connection)) => Err(self.shared.master.closed("before all input was written", REASON).await),
            Err(_) => {
                self.shared.master.end();
                let message = format!(
                    "writing to a command on {} made no progress for {} s, so the connection was dropped",
                    self.shared.master.place(),
                    limit.as_secs_f64()
                );
                Err(TransportError::new(TransportErrorKind::Timeout, message)
                    .with_hint("raise the option write_timeout if the command may read this slowly"))
            }
        }
    }
}

#[async_trait]
impl ProcessInput for Input {
    async fn write(&mut self, mut data: Bytes) -> Result<(), TransportError> {
        while !data.is_empty() {
            let room = self.room().await?;
            let piece = data.split_to(room.min(data.len()));
            // What was reserved and is not used.
            self.shared.ahead.add_permits(room - piece.len());
            self.shared.room.send_modify(|room| room.window = room.window.saturating_sub(piece.len()));
            self.shared.send(message::DATA, |p| put_string(p, &piece));
        }
        Ok(())
    }

    async fn close(&mut self) -> Result<(), TransportError> {
        if !std::mem::take(&mut self.open) {
            return Ok(());
        }
        let end = self.shared.room.borrow().end;
        match end {
            Some(End::Connection) => Err(self.shared.master.closed("before the input was closed", REASON).await),
            Some(End::Command) => Ok(()),
            None => {
                self.shared.send(message::EOF, |_| ());
                Ok(())
            }
        }
    }
}

impl Drop for Input {
    /// A dropped pipe ends its reader's input; so does this.
    fn drop(&mut self) {
        if self.open {
            self.shared.send(message::EOF, |_| ());
        }
    }
}

/// A command's output and end.
struct Output {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    /// The status may come while output is still on its way, so it is kept until that has ended.
    status: Option<ExitStatus>,
    drained: bool,
    /// Bytes that were read since the host was last told.
    read: u32,
    program: String,
    _halves: Arc<Halves>,
}

#[async_trait]
impl ProcessOutput for Output {
    async fn next(&mut self) -> Result<OutputChunk, TransportError> {
        loop {
            if self.drained
                && let Some(status) = &self.status
            {
                return Ok(OutputChunk::Exit(status.clone()));
            }
            // The only await that something comes from, and one that loses nothing when it is dropped.
            match self.events.recv().await {
                Some(Event::Chunk(chunk, length)) => {
                    self.shared.unread.fetch_sub(length, Relaxed);
                    self.read += length;
                    if self.read >= CREDIT {
                        let read = std::mem::take(&mut self.read);
                        self.shared.send(message::WINDOW_ADJUST, |p| p.put_u32(read));
                    }
                    return Ok(chunk);
                }
                Some(Event::Status(status)) => self.status = Some(status),
                Some(Event::Eof) => self.drained = true,
                Some(Event::Closed) => {
                    self.drained = true;
                    if self.status.is_none() {
                        let place = self.shared.master.place();
                        let message = format!("{} ended on {place} without an exit status", self.program);
                        return Err(TransportError::new(TransportErrorKind::Closed, message));
                    }
                }
                None => return Err(self.shared.master.closed(&format!("before {} did", self.program), REASON).await),
            }
        }
    }
}
