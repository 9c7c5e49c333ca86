//! The notes of plugins, which are read from files of which nothing has run.
use autoprof_core::Args;
use autoprof_loader::{PluginNote, read_note};
use camino::Utf8Path;

/// The first byte: 0 for a whole file; else the bytes are the note's text, which in a file nobody would find by chance.
pub fn check(data: &[u8]) {
    match data.split_first() {
        Some((0, file)) => {
            let directory = crate::scratch();
            let path = Utf8Path::from_path(directory.path()).unwrap().join("plugin.so");
            std::fs::write(&path, file).unwrap();
            match read_note(&path) {
                Ok(note) => assert_usable(&note),
                Err(e) => assert_showable(&e.to_string()),
            }
        }
        Some((_, text)) => match PluginNote::read(text) {
            Ok(note) => assert_usable(&note),
            Err(e) => assert_showable(&e),
        },
        None => {}
    }
}

/// That names can be shown and looked up, and that arguments can be checked against what the note says of them.
fn assert_usable(note: &PluginNote) {
    assert!(!note.name.is_empty() && note.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
    let texts = [&note.version, &note.interface, &note.rustc, &note.target, &note.panic];
    texts.into_iter().chain(&note.provides).for_each(|text| assert_showable(text));
    for info in &note.profilers {
        assert!(note.provides.contains(&format!("profiler:{}", info.name)));
        info.params.iter().for_each(|p| assert_showable(&format!("{}{}{}", p.name, p.default, p.help)));
        assert_showable(&info.summary);
        assert!(info.tool_probes().count() <= info.tools.len());
        if let Ok(complete) = Args::new().complete(info) {
            assert!(complete.positional.is_empty());
        }
        for value in ["x", "1", "[a, 2.5]"] {
            let args = Args { positional: vec![value.into()], ..Args::new() };
            let _ = args.complete(info);
        }
    }
}

/// That nothing in a text acts on a terminal.
fn assert_showable(text: &str) {
    assert!(!text.contains(|c: char| c < ' '), "{text:?}");
}
