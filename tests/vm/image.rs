//! The disk, kernel and keys of the machine, made by the scripts beside this file.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

/// What a machine is booted from.
pub struct Image {
    directory: Utf8PathBuf,
}

impl Image {
    /// Installs what is missing on this machine and builds the image, unless that was done before.
    pub fn make(directory: &Utf8Path) -> Result<Image, String> {
        for (script, argument) in [("setup.sh", None), ("image.sh", Some(directory))] {
            let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("vm").join(script);
            let ended = Command::new("nice").args(["-n", "10", script.as_str()]).args(argument).status();
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(format!("{script} failed: {status}")),
                Err(error) => return Err(format!("cannot run {script}: {error}")),
            }
        }
        Ok(Image { directory: directory.to_owned() })
    }

    /// The disk, which machines only read.
    pub fn disk(&self) -> Utf8PathBuf {
        self.directory.join("disk.qcow2")
    }

    /// The kernel.
    pub fn kernel(&self) -> Utf8PathBuf {
        self.directory.join("vmlinuz")
    }

    /// What the kernel finds its disk with.
    pub fn initrd(&self) -> Utf8PathBuf {
        self.directory.join("initrd.img")
    }

    /// The private key that logs in as root and as tester.
    pub fn key(&self) -> Utf8PathBuf {
        self.directory.join("key")
    }

    /// The machine's own key, as `known_hosts` wants it.
    pub fn host_key(&self) -> String {
        let file = self.directory.join("host_key.pub");
        let line = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("cannot read {file}: {error}"));
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }
}
