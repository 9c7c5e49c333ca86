//! Records the compiler and the target for the plugins' notes.
use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("-V").output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    println!("cargo::rustc-env=AUTOPROF_RUSTC={}", version.unwrap_or_default());
    println!("cargo::rustc-env=AUTOPROF_TARGET={}", env::var("TARGET").unwrap_or_default());
}
