//! What a command printed, when the host lost its power.
//!
//! It may be anything, and end in the middle of a line, so of most output nobody can say whether it is torn. But there
//! is one thing that no text has and a file system leaves: zeros up to the end, where the size of the file had reached
//! the disk and its content had not. Then the lines before them are what is whole.
use std::{
    fs::File,
    io::{self, BufRead, Read, Seek},
};

use autoprof_plugin::{
    convert::{Lines, open, stamp},
    prelude::*,
};

/// What is known of a file after one look at all of it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Text {
    /// Bytes up to the end of the last line before the first zero.
    whole: u64,
    /// Lines in those.
    lines: u64,
    /// Bytes before the first zero.
    written: u64,
    /// Zeros behind that.
    zeros: u64,
    /// Whether anything follows the zeros: it is no text.
    binary: bool,
}

/// Writes the whole lines of a torn file beside it; none when it is not torn.
pub fn repair(raw: &RawResults, output: &str, polled: bool) -> Result<Option<Table>, ConvertError> {
    // A command may have nothing to say.
    if !std::fs::metadata(raw.file(output)).is_ok_and(|file| file.is_file() && file.len() > 0) {
        return Ok(None);
    }
    let mut from = open(raw, output)?;
    let Text { whole, lines, written, zeros, binary } = read(&mut from)?;
    if zeros == 0 || binary {
        return Ok(None);
    }
    let name = repaired_name(output);
    let copied = File::create(raw.file(&name)).and_then(|mut to| {
        from.rewind()?;
        io::copy(&mut from.take(whole), &mut to)
    });
    copied.map_err(|e| ConvertError::caused(ConvertErrorKind::Io, format!("cannot write {name}"), &e))?;
    let mut warnings =
        vec![format!("{output} is torn: {zeros} bytes had not reached the disk; whole lines are in {name}")];
    if written > whole {
        warnings.push("the last line is cut short and was left out".to_owned());
    }
    let repaired = Some(if polled { polls(raw, &name)? } else { lines });
    Ok(Some(Table { file: name, rows: lines, warnings, repaired, ..Table::default() }))
}

/// `command.txt` as `command.repaired.txt`.
fn repaired_name(output: &str) -> String {
    match output.rsplit_once('.') {
        Some((stem, extension)) => format!("{stem}.repaired.{extension}"),
        None => format!("{output}.repaired"),
    }
}

/// The polls in a file: before the output of each is a line `# <unix ns> <boot ns>`.
fn polls(raw: &RawResults, file: &str) -> Result<u64, ConvertError> {
    let mut lines = Lines::new(open(raw, file)?);
    let mut polls = 0;
    while let Some(line) = lines.next_text()? {
        polls += u64::from(stamp(&line).is_some());
    }
    Ok(polls)
}

fn read(reader: &mut impl BufRead) -> io::Result<Text> {
    let mut text = Text::default();
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok(text);
        }
        for byte in chunk {
            match byte {
                0 => text.zeros += 1,
                _ if text.zeros > 0 => {
                    text.binary = true;
                    return Ok(text);
                }
                byte => {
                    text.written += 1;
                    if *byte == b'\n' {
                        text.whole = text.written;
                        text.lines += 1;
                    }
                }
            }
        }
        let used = chunk.len();
        reader.consume(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{COMMAND, UserCommand};
    use proptest::prelude::*;

    const FILE: &str = "# 1795389657942735874 6406219427065\n4.00 2.64 1.44 6/134 2696\n\
        # 1795389658443299125 6406719990446\n4.00 2.64 1.44 6/140 2711\n";

    fn converted(args: &Args, bytes: &[u8]) -> (Option<Table>, String) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("command.txt"), bytes).unwrap();
        let raw = RawResults {
            directory: directory.path().to_str().unwrap().into(),
            args: args.complete(&COMMAND).unwrap(),
            began_unix_ns: 0,
            ended_unix_ns: 0,
            facts: HostFacts::default(),
            clock_steps: Vec::new(),
            end_unknown: false,
        };
        let table = UserCommand.convert(&raw).unwrap().pop();
        assert_eq!(std::fs::read(raw.file("command.txt")).unwrap(), bytes, "the raw file stays as it came");
        (table, std::fs::read_to_string(directory.path().join("command.repaired.txt")).unwrap_or_default())
    }

    #[test]
    fn zeros_at_the_end_and_the_line_before_them_are_left_out() {
        let poll = Args::new().with("command", "x").with("poll", 0.5);
        let torn = [&FILE.as_bytes()[..FILE.len() - 3], &[0; 5000]].concat();
        let (table, text) = converted(&poll, &torn);
        let table = table.unwrap();
        assert_eq!((table.rows, table.repaired, table.warnings.len()), (3, Some(2), 2));
        assert_eq!(text, FILE.rsplit_once("4.00").unwrap().0);
        assert_eq!(converted(&Args::new().with("command", "x"), &torn).0.unwrap().repaired, Some(3));
    }

    #[test]
    fn what_may_well_be_whole_is_left_alone() {
        for bytes in [&b""[..], b"no end of line", b"a\n", b"\0\0binary\0", b"a\0b\0\0"] {
            assert_eq!(converted(&Args::new().with("command", "x"), bytes), (None, String::new()), "{bytes:?}");
        }
    }

    #[test]
    fn the_name_of_the_copy_keeps_its_extension() {
        assert_eq!(repaired_name("a.b.log"), "a.b.repaired.log");
        assert_eq!(repaired_name("trace"), "trace.repaired");
    }

    proptest! {
        #[test]
        fn a_file_cut_anywhere_gives_its_whole_lines(at in 0..FILE.len(), zeros in 1usize..9000) {
            let (table, text) = converted(&Args::new().with("command", "x"), &[&FILE.as_bytes()[..at], &vec![0; zeros]].concat());
            let whole = FILE[..at].rfind('\n').map_or(0, |end| end + 1);
            prop_assert_eq!(&text, &FILE[..whole]);
            prop_assert_eq!(table.unwrap().repaired, Some(text.lines().count() as u64));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            converted(&Args::new().with("command", "x"), &bytes);
        }
    }
}
