//! Measures autoprof against peers that are there and prints one table: `just bench`.
//!
//! All in one process and one lab, the contenders taking turns; the ratios are what carries over to other machines.
//! Nothing is asserted about speed, and what a contender does not do is said in its name.

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
    /// How often each contender is measured, after one round that does not count
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// How many hosts to fan out to, comma-separated
    #[arg(long, value_name = "N,...", default_value = "10,30", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    hosts: Vec<u32>,
    /// Size of the file that is collected
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
}

fn main() {
    let Options { runs, hosts, size } = Options::parse();
    println!("{}\nruns: {runs} each, after one that does not count; the contenders take turns\n", machine::describe());
    let mut rows = Vec::new();
    for count in hosts {
        eprintln!("{count} hosts ...");
        rows.extend(fanout::measure(&lab(count), runs));
    }
    eprintln!("collection ...");
    rows.extend(collection::measure(&lab(1), size, runs));
    println!("{}\n\n{}\nload at the end: {}", table::render(&rows), table::NOTES, machine::load());
}

/// Hosts, with namespaces of their own where that is possible.
fn lab(count: u32) -> Lab {
    let lab = Lab::builder(count as usize);
    if Lab::namespaces_available() { lab.in_namespaces().start() } else { lab.start() }
}
