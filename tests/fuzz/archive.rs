//! The archive reader: whatever comes, and in whatever chunks, it never names a path that could leave the directory, and
//! never hands out more than its limits.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path},
};

use autoprof_core::blocks::Blocks;
use autoprof_protocol::{
    archive::{ArchiveError, DecodeLimits, Decoder, Item, MAGIC, MAX_PATH, Totals},
    blocks,
};

/// Small, so that a small input can reach them.
const LIMITS: DecodeLimits = DecodeLimits { files: 6, bytes: 600, path_bytes: 4000 };

/// What came out of a stream: the files in the order in which they began, and the end.
type Unpacked = (Vec<(String, Vec<u8>)>, Result<Totals, String>);

/// The first byte says how the stream is cut into chunks, and whether what follows is the stream itself (even) or the
/// paths and contents of files, from which a stream with right digests is made: nobody guesses a digest.
pub fn check(data: &[u8]) {
    let Some((&how, rest)) = data.split_first() else { return };
    let made;
    let stream = if how % 2 == 0 {
        rest
    } else {
        made = make(rest);
        made.as_slice()
    };
    let whole = unpack(stream, stream.len().max(1));
    assert_eq!(whole, unpack(stream, usize::from(how / 2) + 1), "chunks make a difference");
    if how % 2 == 1 && whole.1.is_ok() {
        assert_eq!(whole.0, parts(rest), "not what was packed");
    }
    let stream = [&blocks::MAGIC[..], rest].concat();
    let whole = unblock(&stream, stream.len());
    assert_eq!(whole, unblock(&stream, usize::from(how / 2) + 1), "chunks make a difference");
}

/// What comes out of blocks, and whether they were in order.
fn unblock(stream: &[u8], chunk: usize) -> (Vec<u8>, Option<String>) {
    let (mut reader, mut out) = (Blocks::default(), Vec::new());
    for part in stream.chunks(chunk) {
        let read = reader.push(part, |bytes| -> Result<(), ArchiveError> {
            assert!(bytes.len() <= blocks::BLOCK);
            out.extend_from_slice(bytes);
            Ok(())
        });
        if let Err(e) = read {
            return (out, Some(e.to_string()));
        }
    }
    (out, None)
}

fn unpack(stream: &[u8], chunk: usize) -> Unpacked {
    // Of one file there is a byte already, so that entries that go on from there are met too.
    let here = blake3::Hasher::new().update(b"x").clone();
    let mut decoder = Decoder::resuming(LIMITS, BTreeMap::from([("a".to_owned(), (1, here))]));
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    let (mut announced, mut verified, mut ends) = (0, 0, 0);
    let mut result = Ok(());
    for part in stream.chunks(chunk) {
        result = decoder.push(part, |item| -> Result<(), ArchiveError> {
            match item {
                Item::Begin(header) => {
                    assert_safe(&header.path);
                    assert!(header.from == 0 || (header.path.as_str(), header.from) == ("a", 1), "{header:?}");
                    announced += header.size - header.from;
                    files.push((header.path, Vec::new()));
                }
                Item::Content(content) => files.last_mut().expect("content without a file").1.extend(content),
                Item::Verified(_) => verified += 1,
                Item::Torn(kept) => {
                    let content = &mut files.last_mut().expect("an end without a file").1;
                    assert!(kept < content.len() as u64);
                    verified += 1;
                }
                Item::End(totals) => {
                    assert_eq!((totals.files, totals.bytes), (verified, announced));
                    ends += 1;
                }
            }
            Ok(())
        });
        if result.is_err() {
            break;
        }
    }
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    assert!(files.len() as u64 <= LIMITS.files && bytes as u64 <= announced && announced <= LIMITS.bytes);
    let names: BTreeSet<&String> = files.iter().map(|(path, _)| path).collect();
    assert_eq!(names.len(), files.len(), "one name twice");
    let end = result.and_then(|()| decoder.finish());
    assert_eq!(end.is_ok(), ends == 1 && !matches!(end, Err(ArchiveError::Trailing(_))));
    let end = end.map_err(|e| match e {
        // How many bytes of it have been seen is a matter of the chunks.
        ArchiveError::Trailing(_) => "trailing".to_owned(),
        other => other.to_string(),
    });
    assert!(!end.as_ref().is_err_and(|text| text.contains(char::is_control)), "{end:?}");
    (files, end)
}

/// That joining the path to a directory stays below it, by the standard library's reading of paths.
fn assert_safe(path: &str) {
    assert!(!path.is_empty() && path.len() <= MAX_PATH);
    assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))), "{path:?}");
    assert!(!path.contains(['\\', '\0', '\n', '\u{1b}']), "{path:?}");
}

/// Paths and contents, which a byte that UTF-8 has not separates.
fn parts(text: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut parts = text.split(|byte| *byte == 0xff);
    let mut files = Vec::new();
    while let (Some(path), Some(content)) = (parts.next(), parts.next()) {
        files.push((String::from_utf8_lossy(path).into_owned(), content.to_vec()));
    }
    files
}

/// A stream of these files that only its paths, their number and their sizes can be wrong with.
fn make(text: &[u8]) -> Vec<u8> {
    let files = parts(text);
    let mut stream = MAGIC.to_vec();
    let mut record = |kind: u8, header: serde_json::Value, content: Option<&[u8]>| {
        let header = header.to_string();
        stream.push(kind);
        stream.extend((header.len() as u32).to_le_bytes());
        stream.extend(header.as_bytes());
        if let Some(content) = content {
            stream.extend(content);
            stream.extend(blake3::hash(content).as_bytes());
        }
    };
    for (path, content) in &files {
        record(b'F', serde_json::json!({ "path": path, "size": content.len() }), Some(content));
    }
    let bytes: usize = files.iter().map(|(_, content)| content.len()).sum();
    record(b'E', serde_json::json!({ "files": files.len(), "bytes": bytes }), None);
    stream
}
