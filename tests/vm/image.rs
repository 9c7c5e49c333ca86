//! The disk, kernel and keys of the machine, made by the scripts beside this file.

use std::process::Command;

use camino::{Utf8Path, Utf8PathBuf};

/// The processor of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    Aarch64,
}

/// What a machine is booted from.
pub struct Image {
    directory: Utf8PathBuf,
    arch: Arch,
}

impl Image {
    /// Installs what is missing on this machine and builds the image, unless that was done before.
    pub fn make(directory: &Utf8Path, arch: Arch) -> Result<Image, String> {
        let (name, build) = match arch {
            Arch::X86_64 => ("x86_64", "image.sh"),
            Arch::Aarch64 => ("aarch64", "image-aarch64.sh"),
        };
        for (script, argument) in [("setup.sh", name), (build, directory.as_str())] {
            let script = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("vm").join(script);
            let ended = Command::new("nice").args(["-n", "10", script.as_str()]).arg(argument).status();
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => return Err(format!("{script} failed: {status}")),
                Err(error) => return Err(format!("cannot run {script}: {error}")),
            }
        }
        Ok(Image { directory: directory.to_owned(), arch })
    }

    /// The processor that it is for.
    pub fn arch(&self) -> Arch {
        self.arch
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
