//! Measures autoprof against peers that are there and prints one table: `just bench`.
//!
//! All in one process and one lab, the contenders taking turns; the ratios are what carries over to other machines.
//! Nothing is asserted about speed, and what a contender does not do is said in its name.

mod autoprof;
mod bare;
mod collection;
mod contender;
mod fanout;
mod latency;
mod machine;
mod masters;
mod observer;
mod report;
mod scale;
mod slow;
mod table;
mod together;
mod weight;

use std::time::Duration;

use camino::Utf8PathBuf;
use clap::{Parser, ValueEnum};
use lab::Lab;

use crate::contender::Row;

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
    /// How many hosts the part scale has, comma-separated
    #[arg(long, value_name = "N,...", default_value = "10,100,300,1000", value_delimiter = ',')]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    scale: Vec<u32>,
    /// How many hosts are to begin together
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(1..))]
    together: u32,
    /// Only these parts, comma-separated: latency, fanout, scale,
    /// together, far, collection, many, slow, small, weight, observer, report
    #[arg(
        long,
        value_name = "PART,...",
        default_value = "latency,fanout,together,far,collection,many,slow,small,weight,observer,report",
        value_delimiter = ','
    )]
    only: Vec<Part>,
    /// Measure this installed autoprof too, in the same turns: what a change has made slower shows
    #[arg(long, value_name = "PREFIX")]
    compare: Option<Utf8PathBuf>,
    /// Size of the file that is collected
    #[arg(long, value_name = "MIB", default_value = "256", value_parser = clap::value_parser!(u32).range(1..))]
    size: u32,
    /// Size of the file that is collected over a slow line
    #[arg(long, value_name = "MIB", default_value = "128", value_parser = clap::value_parser!(u32).range(1..))]
    slow: u32,
}

/// A part of the measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Latency,
    Fanout,
    Scale,
    Together,
    Far,
    Collection,
    Many,
    Slow,
    Small,
    Weight,
    Observer,
    Report,
}

/// What has been measured, said as it comes: the table is printed when all is there.
#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, rows: Vec<Row>) {
        for row in &rows {
            let median = table::median(row).map_or("absent".to_owned(), table::number);
            eprintln!("    {}: {}: {median}", row.what, row.name);
        }
        self.0.extend(rows);
    }
}

fn main() {
    let Options { runs, hosts, scale, together, only, compare, size, slow } = Options::parse();
    if let Some(prefix) = compare {
        contender::compare_with(prefix);
    }
    println!("{}\nruns: {runs} each, after one that does not count; the contenders take turns\n", machine::describe());
    let mut rows = Rows::default();
    if only.contains(&Part::Latency) {
        eprintln!("latency ...");
        rows.add(latency::measure(&lab(1), runs));
    }
    for count in hosts.into_iter().filter(|_| only.contains(&Part::Fanout)) {
        eprintln!("{count} hosts ...");
        rows.add(fanout::measure(&lab(count), runs));
    }
    let mut notes = String::new();
    if only.contains(&Part::Scale) {
        let mut points = Vec::new();
        for count in scale {
            eprintln!("scale, {count} hosts ...");
            let measured = scale::measure(&lab(count), runs);
            points.extend(table::median(&measured[0]).map(|median| (f64::from(count), median)));
            rows.add(measured);
        }
        notes = format!("\nfrom launch to the last host ready, time ∝ hosts^{:.2}", scale::exponent(&points));
    }
    if only.contains(&Part::Together) {
        eprintln!("together ...");
        rows.add(together::measure(&lab(together), runs));
    }
    if only.contains(&Part::Far) {
        eprintln!("together, far ...");
        rows.add(together::measure_far(&lab(together), Duration::from_millis(20), runs));
    }
    if only.contains(&Part::Collection) {
        eprintln!("collection ...");
        rows.add(collection::measure(&lab(1), size, runs));
    }
    if only.contains(&Part::Many) {
        eprintln!("collection from many ...");
        rows.add(collection::from_many(&lab(32), size / 8, runs));
    }
    if only.contains(&Part::Slow) {
        eprintln!("slow line ...");
        rows.add(slow::perf_data(&lab(1), slow, runs));
    }
    if only.contains(&Part::Small) {
        eprintln!("small files ...");
        rows.add(slow::small_files(&lab(1), runs));
    }
    if only.contains(&Part::Weight) {
        eprintln!("weight ...");
        rows.add(weight::measure(&lab(1), runs));
    }
    if only.contains(&Part::Observer) {
        eprintln!("observer ...");
        rows.add(observer::measure(&lab(1), runs));
    }
    if only.contains(&Part::Report) {
        eprintln!("report ...");
        rows.add(report::measure(100, 3600, runs));
    }
    println!("{}{notes}\n\n{}\nload at the end: {}", table::render(&rows.0), table::NOTES, machine::load());
}

/// Hosts, with namespaces of their own where that is possible.
fn lab(count: u32) -> Lab {
    let lab = Lab::builder(count as usize);
    if Lab::namespaces_available() { lab.in_namespaces().start() } else { lab.start() }
}
