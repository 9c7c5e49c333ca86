//! The corpus, replayed: what was ever found, and something of every kind.
use std::{collections::BTreeSet, fs, path::PathBuf};

use super::{archive, control, convert, events, hosts, job, note};

/// An input that is not small slows down every run of libFuzzer.
const LARGEST: u64 = 4096;

fn fuzz(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../fuzz", path].iter().collect()
}

fn names(path: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(fuzz(path)).unwrap();
    entries.map(|e| e.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn replay(target: &str, check: fn(&[u8])) {
    let entries = fs::read_dir(fuzz("corpus").join(target)).unwrap();
    let mut count = 0;
    for path in entries.map(|e| e.unwrap().path()) {
        let input = fs::read(&path).unwrap();
        assert!(input.len() as u64 <= LARGEST, "{} has {} bytes", path.display(), input.len());
        // The name of the input is what a person needs when a law is broken.
        println!("{}", path.display());
        check(&input);
        count += 1;
    }
    assert!(count > 0, "no corpus for {target}");
}

macro_rules! targets {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target), $target::check);
        })*

        #[test]
        fn every_target_has_a_corpus_and_a_program() {
            let targets: BTreeSet<String> = [$(stringify!($target)),*].map(str::to_owned).into();
            assert_eq!(names("corpus"), targets);
            assert_eq!(names("fuzz_targets"), targets);
        }
    };
}

targets!(archive control convert events hosts job note);
