//! What there is of the client of a directory, for a controller that lost sight of it.
use std::{io, path::Path};

use autoprof_protocol::{CONTROL_FILE, EVENTS_FILE, PROTOCOL_VERSION, RESULTS_DIR, Standing};

use crate::{attach, clock, facts};

/// Looks; changes nothing.
///
/// # Errors
/// When the directory's files cannot be used.
pub fn standing(dir: &Path) -> io::Result<Standing> {
    Ok(Standing {
        protocol: PROTOCOL_VERSION,
        digest: facts::own_digest().unwrap_or_default(),
        boot_id: facts::boot_id(),
        now: Some(clock::now()),
        running: attach::client_process(dir)?.is_some(),
        launched: dir.join(CONTROL_FILE).exists(),
        spoke: dir.join(EVENTS_FILE).exists(),
        done: attach::last_says(dir, &["reported"]),
        bytes: attach::size(&dir.join(RESULTS_DIR)),
    })
}
