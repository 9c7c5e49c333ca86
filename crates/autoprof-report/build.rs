//! Takes the script that draws charts out of the crate that brings it, and packs it as the report carries it.
use std::{env, fs, io::Write as _, path::Path};

use flate2::{Compression, write::GzEncoder};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Two scripts: the charts' and one that sets formulas, which the report has none of.
    let sources = plotly::Plot::offline_js_sources();
    let begin = sources.find('>').map(|at| at + 1).expect("a script begins with its tag");
    let end = sources.find("</script>").expect("a script ends with its tag");
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&sources.as_bytes()[begin..end]).expect("memory can be written");
    let packed = packed.finish().expect("memory can be written");
    let out = env::var_os("OUT_DIR").expect("cargo names the directory");
    fs::write(Path::new(&out).join("plotly.js.gz"), packed).expect("the build's directory can be written");
}
