//! Finding a client again: after the line to it broke, its host rebooted, or somebody killed it.
use std::{
    hash::{BuildHasher, RandomState},
    time::{Duration, Instant},
};

use autoprof_protocol::{EventKind, Marker, MarkerTime, Stamp, Task};

use super::{HostClient, Trouble, within};
use crate::{
    duration::Span,
    event::{Cause, HostEvent},
    install::{self, Found, Probed},
    manifest::HostStep,
    profilers::Rejoin,
    signal::Signal,
};

/// The pause before the second try; it doubles up to the longest.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often a client that was killed is started again on a host that did not reboot.
const MOST_REVIVALS: u32 = 1;
/// Most segments of a run: a host that reboots again and again is not followed for ever.
const MOST_SEGMENTS: u32 = 100;

/// What a client is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The window is open: what was collecting is to collect again.
    Window,
    /// The window is over: what there is of its results is to be finished and fetched.
    Results,
}

/// How a client was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is at work, and there is a line to it.
    Running,
    /// It has done all that it was there for; what it said has been taken in.
    Ended,
}

impl HostClient {
    /// Notes that the line to the client is gone.
    pub(super) fn lose(&mut self, reason: &str) {
        self.channel = None;
        self.unanswered = None;
        self.drop_connection();
        if self.lost.is_none() {
            self.lost = Some(Instant::now());
            self.note(HostEvent::Lost { reason: reason.to_owned() });
        }
    }

    /// Takes a run up where another process left it: attaches, or finds out what became of the client.
    pub(crate) async fn rejoin(&mut self, how: Rejoin) {
        let need = if how == Rejoin::Results { Need::Results } else { Need::Window };
        match self.try_find(need).await {
            Ok(standing) => drop(self.found(standing)),
            // Somebody waits at a terminal for what can be had now.
            Err(trouble) if how == Rejoin::Results => {
                self.fail::<()>("reconnect", &trouble.message, trouble.hint);
            }
            Err(trouble) => {
                self.lose(&trouble.message);
                if how == Rejoin::Window {
                    self.find(need).await;
                }
            }
        }
    }

    /// Looks for the client until it is found or the time for that is over; none: it is given up, on record.
    pub(super) async fn find(&mut self, need: Need) -> Option<Standing> {
        let patience = self.context.settings.timeouts.reconnect;
        let mut pause = FIRST_PAUSE;
        let since = *self.lost.get_or_insert_with(Instant::now);
        loop {
            let trouble = match self.try_find(need).await {
                Ok(standing) => return Some(self.found(standing)),
                Err(trouble) => trouble,
            };
            self.channel = None;
            self.drop_connection();
            if !trouble.lost {
                return self.fail("reconnect", &trouble.message, trouble.hint);
            }
            if since.elapsed() >= patience.0 {
                let message = format!("it was lost and not found again within {patience}: {}", trouble.message);
                self.given_up = true;
                let hint = "give it longer with timeouts.reconnect in the job; `autoprof report` tries again later";
                return self.fail("reconnect", &message, Some(hint.to_owned()));
            }
            tracing::debug!(host = %self.host, "not found yet: {}", trouble.message);
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn found(&mut self, standing: Standing) -> Standing {
        if self.lost.take().is_some() {
            self.note(HostEvent::Back);
        }
        standing
    }

    async fn try_find(&mut self, need: Need) -> Result<Standing, Trouble> {
        let directory = self.directory.clone().ok_or_else(|| Trouble::new("there is nothing of ours on it"))?;
        let timeout = self.context.settings.timeouts.connect;
        let session = self.connect().await?;
        let found = within("connect", timeout, install::look(session.as_ref(), &directory)).await?;
        match found {
            Found::Client(there) if there.running => {
                self.catch_up().await?;
                if need == Need::Window && self.awaits_restart() {
                    self.start_again().await?;
                }
                Ok(Standing::Running)
            }
            Found::Client(there) if there.done => {
                self.hear_out().await?;
                Ok(Standing::Ended)
            }
            Found::Client(there) if !there.launched => self.launch_late(need).await,
            Found::Client(there) => {
                if there.spoke {
                    // What it said before it died is on the disk.
                    self.hear_out().await?;
                }
                let booted = there.now.map(|now| Stamp { unix_ns: now.unix_ns - now.boot_ns, boot_ns: 0 });
                self.revive(need, there.boot_id, booted).await
            }
            Found::Broken { said } => {
                tracing::info!(host = %self.host, "its client's program is not whole ({said}): it is sent again");
                let boot_id = self.send_program_again(&directory).await?;
                self.revive(need, boot_id, None).await
            }
            Found::Gone { boot_id } => self.replace(need, boot_id).await,
        }
    }

    /// A client that was installed and not launched: either it was to go on with a segment, or an earlier process was
    /// killed in between, and there is nothing to save.
    async fn launch_late(&mut self, need: Need) -> Result<Standing, Trouble> {
        if need == Need::Window && self.has_begun() {
            return self.begin_again(self.segment() + 1).await;
        }
        Err(Trouble::new("its client was installed and never launched: whoever began the run was killed before"))
    }

    /// Whether profilers that had begun wait for a start once more.
    fn awaits_restart(&self) -> bool {
        let step = self.context.recorder.with_manifest(|m| m.hosts.get(&self.host.name).map(|host| host.step));
        step == Some(HostStep::Ready) && self.has_begun()
    }

    /// Whether the host's boot is another one than that in which its client was.
    fn has_rebooted(&self, boot_id: &str) -> bool {
        self.boot_id.as_ref().is_some_and(|before| before != boot_id)
    }

    /// A client that is dead, in a directory that is still there: what it had is kept, and goes on if it is wanted.
    async fn revive(&mut self, need: Need, boot_id: String, booted: Option<Stamp>) -> Result<Standing, Trouble> {
        let rebooted = self.has_rebooted(&boot_id);
        let cause = if rebooted { Cause::Reboot } else { Cause::ClientKilled };
        self.note_broken(cause, boot_id, booted.filter(|_| rebooted));
        let segment = self.segment();
        let go_on = need == Need::Window && self.has_begun() && (rebooted || self.revived < MOST_REVIVALS);
        if !rebooted {
            self.revived += u32::from(go_on);
        }
        if go_on && segment < MOST_SEGMENTS {
            self.begin_again(segment + 1).await
        } else {
            self.try_launch(segment, Task::Finish).await?;
            Ok(Standing::Running)
        }
    }

    /// A client whose directory is gone, and everything in it.
    async fn replace(&mut self, need: Need, boot_id: String) -> Result<Standing, Trouble> {
        let rebooted = self.has_rebooted(&boot_id);
        let cause = if rebooted { Cause::RebootAndWipe } else { Cause::Removed };
        self.note_broken(cause, boot_id, None);
        let segment = self.segment();
        if need == Need::Results || !self.has_begun() || segment >= MOST_SEGMENTS {
            self.directory = None;
            return Err(Trouble::new(format!("nothing of it is left on the host: {}", cause.words())));
        }
        // Only now: a run that is interrupted here must still know the directory as it was.
        self.install(&[]).await?;
        self.begin_again(segment + 1).await
    }

    /// Launches a client for the next segment and starts it.
    async fn begin_again(&mut self, segment: u32) -> Result<Standing, Trouble> {
        self.try_launch(segment, Task::Profile).await?;
        self.start_again().await
    }

    async fn start_again(&mut self) -> Result<Standing, Trouble> {
        let timeout = self.context.settings.timeouts.start;
        let channel = self.channel.as_mut().ok_or_else(|| Trouble::lost("there is no line to it"))?;
        channel.signal(Signal::Marker(Marker::Start, MarkerTime::Now)).await?;
        self.expect("start", timeout, |kind| matches!(kind, EventKind::Started { .. })).await?;
        self.compare_clocks().await;
        Ok(Standing::Running)
    }

    fn note_broken(&self, cause: Cause, boot_id: String, until: Option<Stamp>) {
        self.note(HostEvent::Broken { cause, boot_id, until });
    }

    pub(super) fn segment(&self) -> u32 {
        self.context.recorder.with_manifest(|m| m.hosts.get(&self.host.name).map_or(1, |host| host.segment))
    }

    /// Whether profilers of this host have ever been started.
    pub(super) fn has_begun(&self) -> bool {
        let begun = |m: &crate::manifest::Manifest| {
            m.hosts.get(&self.host.name).is_some_and(|h| h.profilers.values().any(|p| p.began.is_some()))
        };
        self.context.recorder.with_manifest(begun)
    }

    /// Sends the client's program into a directory that is there; gives the id of the boot that it found.
    async fn send_program_again(&mut self, directory: &str) -> Result<String, Trouble> {
        let session = self.connect().await?;
        let arch = self.facts.as_ref().map(|facts| facts.arch.clone()).unwrap_or_default();
        let probed = Probed { arch, directory: directory.to_owned() };
        let timeout = self.context.settings.timeouts.install;
        let installing = install::install(session.as_ref(), &probed, &self.context.store, &[]);
        Ok(within("install", timeout, installing).await?.boot_id)
    }

    /// Takes in what a client at work has said since it was heard last.
    async fn catch_up(&mut self) -> Result<(), Trouble> {
        self.close_channel();
        self.open_channel().await?;
        // The answer to a beat comes after everything that was in the file before it.
        let channel = self.channel.as_mut().ok_or_else(|| Trouble::lost("there is no line to it"))?;
        channel.signal(Signal::Beat(0)).await?;
        let ready = self.context.settings.timeouts.ready;
        let answered = |kind: &EventKind| matches!(kind, EventKind::Beat { .. } | EventKind::Reported);
        // A host that stands still for a while (a frozen cgroup, a paused machine) may go on.
        self.expect("ready", ready, answered).await.map_err(|trouble| Trouble { lost: true, ..trouble })
    }

    /// Takes in what a client that is gone has said, to its last word.
    async fn hear_out(&mut self) -> Result<(), Trouble> {
        self.close_channel();
        self.open_channel().await?;
        let ready: Span = self.context.settings.timeouts.ready;
        // For all of it: a host that talks on is not listened to for ever.
        let deadline = tokio::time::Instant::now() + ready.0;
        while let Some(channel) = self.channel.as_mut() {
            match tokio::time::timeout_at(deadline, channel.event()).await {
                Ok(Ok(event)) => self.take(event),
                Ok(Err(e)) if e.kind == crate::error::SignalErrorKind::Closed => self.channel = None,
                Ok(Err(e)) => return Err(e.into()),
                Err(_) => return Err(Trouble::lost(format!("it did not say all within {ready}"))),
            }
        }
        Ok(())
    }

    /// Whether the results are here already.
    pub(super) fn is_collected(&self) -> bool {
        self.has_passed(HostStep::Collected)
    }
}

/// A pause between half as long and half as long again: hosts that went together are not asked together.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(0) % 1000;
    pause / 2 + pause * u32::try_from(random).unwrap_or(0) / 1000
}
