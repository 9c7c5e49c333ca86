//! Stacks over time, for the page: which stack was seen in which step of 20 ms.
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader},
};

use autoprof_core::manifest::Manifest;
use camino::{Utf8Path, Utf8PathBuf};
use serde::Serialize;

use crate::{charts::milliseconds, place};

/// The file of a profiler that has them: folded stacks whose first frame is a time in seconds since 1970.
const FILE: &str = "timeline.folded";
/// The length of a step, in milliseconds.
const STEP_MS: i64 = 20;
/// Most samples of one host that are put into a page.
const MOST_SAMPLES: usize = 400_000;
/// Most text of different stacks of one host, in bytes.
const MOST_TEXT: usize = 16 << 20;

/// The samples of a host, in order of time.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// The different stacks, outermost frame first, separated by semicolons.
    stacks: Vec<String>,
    /// Steps since the begin of the run, each less the one before.
    step: Vec<i64>,
    /// The number of the stack.
    stack: Vec<usize>,
    /// How many samples.
    count: Vec<u64>,
}

/// The files of a host that have stacks over time, one for each segment and window.
pub fn files(run: &Utf8Path, manifest: &Manifest, host: &str) -> Vec<Utf8PathBuf> {
    place::tables(run, manifest, host, FILE)
}

/// Reads them; none: there is nothing in them. What is not between `begin` and `end` (by the controller's clock, as all of
/// the page; the host's is `ahead` of it), give or take a second, is left out.
///
/// # Errors
/// When a file cannot be read, or has more in it than a page can hold.
pub fn read(files: &[Utf8PathBuf], (begin, end): (f64, f64), ahead: f64) -> io::Result<Option<Timeline>> {
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let mut samples: Vec<(i64, usize, u64)> = Vec::new();
    let mut text = 0;
    for path in files {
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            let Some((at, stack, count)) = sample(&line) else { continue };
            if !(begin - 1.0..=end + 1.0).contains(&(at - ahead)) {
                continue;
            }
            let number = match numbers.get(stack) {
                Some(number) => *number,
                None => {
                    text += stack.len();
                    let next = numbers.len();
                    numbers.insert(stack.to_owned(), next);
                    next
                }
            };
            let step = milliseconds(at - ahead - begin).max(0) / STEP_MS;
            samples.push((step, number, count));
            if samples.len() > MOST_SAMPLES || text > MOST_TEXT {
                let message = format!(
                    "{path} has more than a page can hold ({MOST_SAMPLES} samples, {} MiB of different stacks)",
                    MOST_TEXT >> 20
                );
                return Err(io::Error::other(message));
            }
        }
    }
    if samples.is_empty() {
        return Ok(None);
    }
    samples.sort_unstable();
    let mut stacks = vec![String::new(); numbers.len()];
    for (stack, number) in numbers {
        stacks[number] = stack;
    }
    let mut timeline = Timeline { stacks, ..Timeline::default() };
    let mut before = 0;
    for (step, number, count) in samples {
        timeline.step.push(step - before);
        timeline.stack.push(number);
        timeline.count.push(count);
        before = step;
    }
    Ok(Some(timeline))
}

/// `1795716091.240;command;outer;inner 3`
fn sample(line: &str) -> Option<(f64, &str, u64)> {
    let (rest, count) = line.rsplit_once(' ')?;
    let (at, stack) = rest.split_once(';')?;
    Some((at.parse().ok().filter(|at: &f64| at.is_finite())?, stack, u64::from(count.parse::<u32>().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(text: &[u8], (begin, end): (f64, f64), ahead: f64) -> io::Result<Option<Timeline>> {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join(FILE)).unwrap();
        std::fs::write(&path, text).unwrap();
        read(&[path], (begin, end), ahead)
    }

    #[test]
    fn samples_are_counted_by_steps_since_the_begin_by_the_controllers_clock() {
        let text = b"102.020;b;c 2\n101.999;a 1\nnonsense\n100.000;a 4\n102.500;a x\n1e308;a 1\n200.0;a 1\n";
        let read = timeline(text, (100.0, 103.0), 1.0).unwrap().unwrap();
        let known = Timeline {
            stacks: vec!["b;c".into(), "a".into()],
            step: vec![0, 49, 2],
            stack: vec![1, 1, 0],
            count: vec![4, 1, 2],
        };
        assert_eq!(read, known);
    }

    #[test]
    fn nothing_is_no_timeline_and_too_much_is_said() {
        assert_eq!(timeline(b"", (0.0, 9.0), 0.0).unwrap(), None);
        let text = "1.0;a 1\n".repeat(MOST_SAMPLES + 1);
        assert!(
            timeline(text.as_bytes(), (0.0, 9.0), 0.0).unwrap_err().to_string().contains("more than a page can hold")
        );
    }
}
