//! A program that burns processor time in functions with known names.

use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};

use crate::keeper::keeper;
use crate::running;

const SOURCE: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

__attribute__((noinline)) void burn_inner(unsigned long rounds) {
    /* Without a use of its frame, a leaf function gets none, and its caller is missing in call chains. */
    __asm__ volatile("" : : "r"(__builtin_frame_address(0)));
    for (unsigned long i = 0; i < rounds; i++) sink += i * i;
}

__attribute__((noinline)) void burn_outer(double seconds) {
    struct timespec begin, now;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    do {
        burn_inner(200000);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - begin.tv_sec) + (now.tv_nsec - begin.tv_nsec) / 1e9 < seconds);
}

int main(int argc, char **argv) {
    burn_outer(argc > 1 ? atof(argv[1]) : 1.0);
    return 0;
}
"#;

/// The path of a program that burns one processor for as many seconds as its argument says, in `burn_inner`, called by
/// `burn_outer`, with frame pointers and debug information. Visible on all hosts. Compiled when first asked for.
///
/// # Panics
/// When there is no C compiler (`skip_unless(&["cc"])`).
pub fn burner() -> &'static Utf8Path {
    static BURNER: OnceLock<Utf8PathBuf> = OnceLock::new();
    BURNER.get_or_init(|| {
        let program = keeper().scratch().join("burner");
        let source = program.with_extension("c");
        std::fs::write(&source, SOURCE).unwrap_or_else(|error| panic!("cannot write {source}: {error}"));
        let mut compile = Command::new("cc");
        compile.args([
            "-O1",
            "-g",
            "-fno-omit-frame-pointer",
            "-mno-omit-leaf-frame-pointer",
            "-fno-optimize-sibling-calls",
            "-o",
        ]);
        compile.args([&program, &source]);
        running::run(&mut compile, Duration::from_secs(60)).expect_success();
        program
    })
}
