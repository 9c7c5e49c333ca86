//! The tools of sysstat: iostat (disks), mpstat (CPUs), sar (everything, network above all) and pidstat (processes).
#![forbid(unsafe_code)]

mod iostat;
mod json;
mod mpstat;
mod pidstat;
mod sar;
mod sar_keyed;
mod tables;
mod tool;

use autoprof_plugin::prelude::*;

pub use iostat::{IOSTAT, Iostat};
pub use mpstat::{MPSTAT, Mpstat};
pub use pidstat::{PIDSTAT, Pidstat};
pub use sar::{SAR, Sar};

/// Adds the encoders of iostat, mpstat, sar and pidstat.
///
/// # Errors
/// When there is a profiler of one of these names already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(Iostat))?;
    registry.add_encoder(Arc::new(Mpstat))?;
    registry.add_encoder(Arc::new(Sar))?;
    registry.add_encoder(Arc::new(Pidstat))
}

export_plugin!(register, profilers = [IOSTAT, MPSTAT, SAR, PIDSTAT]);
