//! Flame graphs of folded stacks, drawn by inferno.
use std::{
    fs::File,
    io::{self, BufRead, BufReader},
};

use autoprof_core::manifest::Manifest;
use camino::{Utf8Path, Utf8PathBuf};
use inferno::flamegraph::{self, Options};

use crate::place;

/// Frames narrower than this share, in percent, are left out: nobody can see them.
const LEAST_WIDTH: f64 = 0.05;

/// Most bytes of stacks that are read for one graph: a host may have sent any amount.
const MOST_BYTES: u64 = 512 << 20;

/// The folded stacks of a host, one file for each segment and window.
#[must_use]
pub fn files(run: &Utf8Path, manifest: &Manifest, host: &str) -> Vec<Utf8PathBuf> {
    place::tables(run, manifest, host, "stacks.folded")
}

/// Lines of the files, each with a frame before it if one is given.
///
/// # Errors
/// When a file cannot be read, or together they are larger than what is read for one graph.
pub fn lines(files: &[Utf8PathBuf], root: Option<&str>) -> io::Result<Vec<String>> {
    fits(files)?;
    let mut all = Vec::new();
    for path in files {
        for line in BufReader::new(File::open(path)?).split(b'\n') {
            // What is not UTF-8 is shown as such and takes nothing from the rest.
            let line = bounded(String::from_utf8_lossy(&line?).into_owned());
            // A semicolon would be a frame of its own.
            all.push(root.map_or(line.clone(), |root| format!("{};{line}", root.replace(';', ":"))));
        }
    }
    Ok(all)
}

/// A line whose count is none that samples could have: with the largest one that they could. Sums of any others would be
/// more than a number can be.
fn bounded(line: String) -> String {
    match line.rsplit_once(' ') {
        Some((stack, count)) if count.parse::<u32>().is_err() && count.bytes().all(|b| b.is_ascii_digit()) => {
            format!("{stack} {}", u32::MAX)
        }
        _ => line,
    }
}

/// That these files are not more than what is read for one graph.
///
/// # Errors
/// When they are, or one cannot be looked at.
pub fn fits<'a>(files: impl IntoIterator<Item = &'a Utf8PathBuf>) -> io::Result<()> {
    let sizes = files.into_iter().map(|path| path.metadata().map(|file| file.len()));
    let bytes = sizes.sum::<io::Result<u64>>()?;
    if bytes > MOST_BYTES {
        let most = MOST_BYTES >> 20;
        return Err(io::Error::other(format!(
            "its stacks are {} MiB, of which more than {most} are not drawn",
            bytes >> 20
        )));
    }
    Ok(())
}

/// Draws one flame graph as an SVG that can be searched and zoomed; none: there are no samples.
///
/// Where each line has two counts, before and after, it shows what differs: red frames have grown, blue ones shrunk.
///
/// # Errors
/// When the stacks cannot be drawn.
pub fn draw(title: &str, lines: &[String]) -> io::Result<Option<String>> {
    if lines.is_empty() {
        return Ok(None);
    }
    let mut options = Options::default();
    title.clone_into(&mut options.title);
    options.min_width = LEAST_WIDTH;
    options.hash = true;
    options.deterministic = true;
    "samples".clone_into(&mut options.count_name);
    let mut svg = Vec::new();
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), &mut svg).map_err(io::Error::other)?;
    Ok(Some(String::from_utf8_lossy(&svg).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_that_cannot_be_added_up_are_drawn_as_the_largest_that_can() {
        let directory = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(directory.path().join("stacks.folded")).unwrap();
        std::fs::write(&path, "a;b 18446744073709551615\na;c 99999999999999999999999\na;d 7\nnonsense\n").unwrap();
        let lines = lines(&[path], None).unwrap();
        assert_eq!(lines, ["a;b 4294967295", "a;c 4294967295", "a;d 7", "nonsense"]);
        assert!(draw("t", &lines).unwrap().is_some());
    }
}
