//! How much may be written to a channel, kept beside russh's own count.
//!
//! russh 0.62 takes the host's word for the window while messages that it has not sent yet still wait in its queue.
//! The writer then overshoots, and what is over waits inside the connection, during which no channel of it sends
//! anything; if the host closes the channel meanwhile, that is for ever. So a writer here stays away from the edge
//! by what the queue can hold.
use tokio::sync::watch;

/// Pieces that can wait between a writer and the connection's task: russh's queue of 10, one in the writer's hand.
const QUEUED: usize = 11;
/// Longest piece that is written at once.
const LONGEST: usize = 32 * 1024;

/// The window of one channel.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Window {
    /// Bytes that the host takes.
    free: usize,
    /// Length of a piece: small enough that the margin is less than half of the whole window, and hosts with a
    /// small window still see reason to widen it.
    piece: usize,
    /// The host has closed the channel: nothing widens its window any more.
    pub(crate) closed: bool,
}

/// The window as those see it who change it.
pub(crate) type Shared = watch::Sender<Window>;

impl Window {
    /// The host has set or widened the window. sshd opens channels with none, and grants it when a command starts.
    pub(crate) fn set(&mut self, size: u32) {
        self.free = size as usize;
        self.piece = (self.free / 32).clamp(self.piece, LONGEST);
    }

    /// A piece is on its way.
    pub(crate) fn take(&mut self, length: usize) {
        self.free = self.free.saturating_sub(length);
    }

    /// How much may be written now; none: wait.
    pub(crate) fn room(&self) -> Option<usize> {
        (self.piece > 0 && self.free >= (QUEUED + 1) * self.piece).then_some(self.piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_stops_before_what_the_queue_can_hold() {
        for size in [2 << 20, 64 << 10, 24 << 10, 400] {
            let mut window = Window::default();
            assert_eq!(window.room(), None, "before the channel is open");
            window.set(0);
            assert_eq!(window.room(), None, "before the host grants anything");
            window.set(size);
            let mut written = 0;
            while let Some(piece) = window.room() {
                window.take(piece);
                written += piece;
            }
            assert!(written * 2 >= size as usize, "{written} of {size}: the host would not widen the window");
            assert!(size as usize - written >= QUEUED * window.piece);
            window.set(size);
            assert!(window.room().is_some());
        }
    }
}
