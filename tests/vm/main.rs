//! Reboots, resets and power cuts of a real kernel under autoprof: `just reboot-test`; and a real kernel of another
//! architecture, aarch64: `just arm-test`.
//!
//! One emulated machine (QEMU without hardware acceleration, so it works wherever QEMU does), Debian 12 in it, and the
//! staged autoprof that profiles it over SSH while the scenario does something to it. The lab of `tests/lab/` has no
//! kernel to reboot; this is for what only one can show. It takes minutes, so it is not part of `just test`.
//!
//! Every scenario has a machine with a fresh disk. What it leaves (the run, autoprof's output, the console) is below
//! `target/reboot-test/<scenario>/`.

mod figures;
mod image;
mod machine;
mod qmp;
mod run;
mod scenarios;

use std::fs;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use camino::{Utf8Path, Utf8PathBuf};
use clap::Parser;

use image::{Arch, Image};
use machine::Machine;
use scenarios::{AARCH64, SCENARIOS, Scenario};

/// Reboot, reset, cut and misset a virtual machine while autoprof profiles it
#[derive(Debug, Parser)]
struct Options {
    /// Scenarios to run, all without any; `list` prints them
    scenario: Vec<String>,
    /// The processor of the machine, which has scenarios of its own
    #[arg(long, value_enum, default_value = "x86_64")]
    arch: Arch,
}

fn main() -> ExitCode {
    let Options { scenario: wanted, arch } = Options::parse();
    let (scenarios, files, results) = match arch {
        Arch::X86_64 => (SCENARIOS, "vm", "reboot-test"),
        Arch::Aarch64 => (AARCH64, "vm-aarch64", "arm-test"),
    };
    if wanted.iter().any(|name| name == "list") {
        scenarios.iter().for_each(|scenario| println!("{:<18} {}", scenario.name, scenario.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = wanted.iter().find(|name| scenarios.iter().all(|scenario| scenario.name != **name)) {
        eprintln!("{results}: there is no scenario {unknown}; `just {results} list` prints them");
        return ExitCode::from(2);
    }

    // What a scenario did not find is said in full, without the way to the line that says so.
    panic::set_hook(Box::new(|panic| eprintln!("{}", panic.payload_as_str().unwrap_or("it panicked"))));
    let target = Utf8Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").join("target");
    let image = match Image::make(&target.join(files), arch) {
        Ok(image) => image,
        Err(message) => {
            eprintln!("{results}: {message}");
            return ExitCode::FAILURE;
        }
    };
    let chosen = scenarios.iter().filter(|scenario| wanted.is_empty() || wanted.iter().any(|w| w == scenario.name));
    let failed = chosen.filter(|scenario| !go(scenario, &image, target.join(results).join(scenario.name))).count();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays a scenario and prints its line; says whether it passed.
fn go(scenario: &Scenario, image: &Image, directory: Utf8PathBuf) -> bool {
    let _ = fs::remove_dir_all(&directory);
    fs::create_dir_all(&directory).unwrap_or_else(|error| panic!("cannot make {directory}: {error}"));
    let began = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut machine = Machine::boot(image, &directory, scenario.qemu);
        let booted = began.elapsed().as_secs_f64();
        format!("boot {booted:.1} s; {}", (scenario.play)(&mut machine))
    }));
    let seconds = began.elapsed().as_secs();
    match &played {
        Ok(figures) => println!("ok    {:<18} {seconds:>4} s  {figures}", scenario.name),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked");
            let first: String = text.lines().next().unwrap_or_default().chars().take(160).collect();
            println!("FAIL  {:<18} {seconds:>4} s  {first} (see {directory})", scenario.name);
        }
    }
    played.is_ok()
}
