//! Measures autoprof against peers that are there and prints one table: `just bench`.
//!
//! Everything runs in one process against one lab, the contenders take turns, and the ratios are what carries over to
//! other machines. Nothing is asserted about speed; what a contender does not do is said in its name.

mod autoprof;
mod collection;
mod contender;
mod fanout;
mod machine;
mod masters;
mod table;

use clap::Parser;
use lab::Lab;

/// Measure connect + install + ready, skew and collection against ssh, scp, pdsh and clush.
#[derive(Debug, Parser)]
struct Options {
    /// How many times each contender is measured, after one round that does not count
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many hosts to fan out to, comma-separated
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10,30")]
    hosts: Vec<usize>,
    /// Size of the file that is collected
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
}

fn main() {
    let options = Options::parse();
    if let Some(missing) = ["sshd", "ssh", "scp", "xargs"].iter().find(|name| lab::find_program(name).is_none()) {
        eprintln!("{missing} is not installed, and nothing can be measured without it (just setup)");
        std::process::exit(2);
    }
    println!("{}", machine::describe());
    println!("{} runs each after one that does not count; the contenders take turns.", options.runs);
    let mut rows = Vec::new();
    for count in options.hosts {
        eprintln!("{count} hosts ...");
        rows.extend(fanout::measure(&hosts(count), options.runs));
    }
    eprintln!("collection ...");
    rows.extend(collection::measure(&hosts(1), options.size, options.runs));
    println!("{}", table::render(&rows));
    println!("{}", table::NOTES);
    println!("load at the end: {}", machine::load());
}

/// Hosts with namespaces of their own where that is possible.
fn hosts(count: usize) -> Lab {
    let builder = Lab::builder(count);
    if Lab::namespaces_available() { builder.in_namespaces().start() } else { builder.start() }
}
