//! nsenter: reaches into the namespaces of a process of this machine, such as a container's, with nothing of autoprof
//! or SSH in them. A host's address is the number of the process.
#![forbid(unsafe_code)]
use std::{any::Any, fs::File, io, os::fd::AsRawFd as _, process, time::Duration};

use autoprof_plugin::{child_process, core::transport::capture, prelude::*};
use tokio::time::timeout;

/// How long it may take to run nothing inside.
const CONNECT: Duration = Duration::from_secs(10);
/// The namespaces that are entered, as `/proc` and as nsenter call them.
const NAMESPACES: [(&str, &str); 5] =
    [("mnt", "mount"), ("uts", "uts"), ("ipc", "ipc"), ("net", "net"), ("pid", "pid")];
/// Where programs are, here and inside.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const HINT: &str = "run autoprof as root: entering namespaces takes CAP_SYS_ADMIN";

/// Adds the transport.
///
/// # Errors
/// When there is a transport named `nsenter` already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_transport("nsenter", Arc::new(Nsenter))
}

export_plugin!(register, provides = ["transport:nsenter"]);

struct Nsenter;

#[async_trait]
impl Transport for Nsenter {
    async fn connect(&self, host: &Host) -> Result<Arc<dyn Session>, TransportError> {
        let pid: u32 = host.address().parse().map_err(|_| {
            let message = format!("{:?} is not the number of a process", host.address());
            TransportError::new(TransportErrorKind::Config, message).with_hint("give the host an address: \"4711\"")
        })?;
        let session = Inside::of(pid).map_err(|e| refused(pid, &e))?;
        // What cannot be entered is found out here, where it is said of the host and tried again, and not in mid-run.
        let nothing = Command::sh(":", [""; 0]);
        let tried = timeout(CONNECT, capture(&session, &nothing, Bytes::new(), 64 << 10)).await.map_err(|_| {
            let message = format!("a shell inside process {pid} did not end within {} s", CONNECT.as_secs());
            TransportError::new(TransportErrorKind::Timeout, message)
        })??;
        if tried.status.success() {
            return Ok(Arc::new(session));
        }
        let said = tried.stderr_text();
        let message = format!("no shell can be run inside process {pid} ({}): {said}", tried.status);
        Err(match said.contains("not permitted") || said.contains("denied") {
            true => TransportError::new(TransportErrorKind::Auth, message).with_hint(HINT),
            false => TransportError::new(TransportErrorKind::Connect, message),
        })
    }
}

/// Why a process's namespaces cannot be opened.
fn refused(pid: u32, e: &io::Error) -> TransportError {
    match e.kind() {
        io::ErrorKind::NotFound => {
            let message = format!("there is no process {pid}");
            TransportError::new(TransportErrorKind::Connect, message)
        }
        io::ErrorKind::PermissionDenied => {
            let message = format!("process {pid} belongs to another user");
            TransportError::new(TransportErrorKind::Auth, message).with_hint(HINT)
        }
        _ => TransportError::caused(TransportErrorKind::Connect, format!("cannot look into process {pid}"), e),
    }
}

/// The inside of a process. The files keep it what it is: when the process has ended and its number is another's, it is
/// not the other's namespaces that are entered.
struct Inside {
    namespaces: Vec<(&'static str, File)>,
    root: File,
}

impl Inside {
    fn of(pid: u32) -> io::Result<Self> {
        let open = |file: &str| File::open(format!("/proc/{pid}/{file}"));
        let namespace = |(file, option)| Ok((option, open(&format!("ns/{file}"))?));
        let namespaces = NAMESPACES.into_iter().map(namespace).collect::<io::Result<_>>()?;
        Ok(Self { namespaces, root: open("root")? })
    }
}

/// An open file of this process, as a child of it can name it.
fn path(file: &File) -> String {
    format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd())
}

#[async_trait]
impl Session for Inside {
    async fn exec(&self, command: &Command) -> Result<Process, TransportError> {
        let mut nsenter = process::Command::new("nsenter");
        // The environment of whoever runs autoprof is nothing to those inside.
        nsenter.env_clear().env("PATH", PATH);
        nsenter.args(self.namespaces.iter().map(|(option, file)| format!("--{option}={}", path(file))));
        // Without the second, the command would begin in a directory that is outside of its root.
        nsenter.args([format!("--root={}", path(&self.root)), format!("--wd={}", path(&self.root))]);
        nsenter.arg("--").args(&command.argv);
        // Status and signal of what it ran are nsenter's own, which waits for it.
        child_process(nsenter)
    }

    async fn close(&self) -> Result<(), TransportError> {
        Ok(())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
