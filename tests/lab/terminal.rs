//! A terminal for programs that ask a person.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::running::wait_until;

/// A terminal, and a person at it. A program that has it as its own gets SIGHUP when this is dropped.
pub struct Terminal {
    screen: File,
    /// Held, so that the terminal is there before and after the program.
    line: OwnedFd,
    name: String,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// A new terminal.
    ///
    /// # Panics
    /// When the system gives none.
    pub fn new() -> Terminal {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let screen = openpt(flags).expect("a terminal can be had");
        grantpt(&screen).and_then(|()| unlockpt(&screen)).expect("the terminal can be opened");
        let line = ioctl_tiocgptpeer(&screen, flags).expect("the terminal can be opened");
        let name = ptsname(&screen, Vec::new()).expect("the terminal has a name");
        let name = name.into_string().expect("names of terminals are ASCII");
        let screen = File::from(screen);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (screen.try_clone().expect("a descriptor"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
            }
        });
        Terminal { screen, line, name, shown }
    }

    /// A command that has this as its terminal, and nothing to read. It is a child of what is started.
    #[must_use]
    pub fn command(&self, command: &Command) -> Command {
        let mut there = Command::new("sh");
        there.args(["-c", "exec setsid --ctty --wait \"$@\" <\"$0\"", &self.name]);
        there.arg(command.get_program()).args(command.get_args()).env_clear();
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        if let Some(directory) = command.get_current_dir() {
            there.current_dir(directory);
        }
        there
    }

    /// Waits until `text` is shown and what is typed is not.
    ///
    /// # Panics
    /// With what is shown, when that is not so after `deadline`.
    #[track_caller]
    pub fn wait_for_prompt(&self, text: &str, deadline: Duration) {
        let hidden = || tcgetattr(self.line.as_fd()).is_ok_and(|modes| !modes.local_modes.contains(LocalModes::ECHO));
        let asked = wait_until(deadline, || self.shown().contains(text) && hidden());
        assert!(asked, "`{text}` was not asked within {deadline:?}:\n{}", self.shown());
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn type_line(&self, line: &str) {
        (&self.screen).write_all(format!("{line}\n").as_bytes()).expect("a terminal takes what is typed");
    }

    /// All that it has shown.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}
