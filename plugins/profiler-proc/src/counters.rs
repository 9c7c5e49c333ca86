//! What is in the files of `/proc` (proc(5), and `Documentation/admin-guide/iostats.rst` of the kernel).
use std::collections::BTreeMap;

/// Counters under names; a host can have some thousand CPUs, disks and interfaces.
pub type Named<const N: usize> = BTreeMap<String, [u64; N]>;

/// More than any host has.
const MOST_NAMES: usize = 100_000;

/// The CPUs of `/proc/stat`, `all` among them: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
pub fn cpus(stat: &str) -> Vec<(String, [u64; 8])> {
    let cpu = |line: &str| {
        let rest = line.strip_prefix("cpu")?;
        let (name, rest) = rest.split_once(' ')?;
        // Old kernels have fewer columns.
        Some((if name.is_empty() { "all" } else { name }.to_owned(), numbers(rest)?))
    };
    stat.lines().map_while(cpu).take(MOST_NAMES).collect()
}

/// One number of `/proc/stat`, `/proc/vmstat` or `/proc/meminfo`.
pub fn value(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with([' ', ':'])))?;
    line.trim_start_matches(':').split_whitespace().next()?.parse().ok()
}

/// The devices of `/proc/diskstats`: reads, merged, sectors, ms; writes, merged, sectors, ms; in flight, ms busy, ms
/// weighted. Those that never did anything are left out.
pub fn disks(diskstats: &str) -> Named<11> {
    let disk = |line: &str| {
        let mut words = line.split_whitespace();
        let name = words.nth(2)?.to_owned();
        let rest: Vec<&str> = words.collect();
        Some((name, numbers::<11>(&rest.join(" "))?)).filter(|(_, counters)| counters.iter().any(|c| *c > 0))
    };
    diskstats.lines().filter_map(disk).take(MOST_NAMES).collect()
}

/// The interfaces of `/proc/net/dev`: received bytes, packets, errors, drops; sent bytes, packets, errors, drops.
pub fn interfaces(dev: &str) -> Named<8> {
    let interface = |line: &str| {
        let (name, rest) = line.rsplit_once(':')?;
        let [rb, rp, re, rd, _, _, _, _, tb, tp, te, td] = numbers::<12>(rest)?;
        Some((name.trim().to_owned(), [rb, rp, re, rd, tb, tp, te, td]))
    };
    dev.lines().filter_map(interface).take(MOST_NAMES).collect()
}

/// The microseconds that some, or all, tasks stood still, of a file in `/proc/pressure`.
pub fn pressure(text: &str, who: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(who))?;
    line.rsplit_once("total=")?.1.trim().parse().ok()
}

/// `/proc/loadavg`: load of 1, 5 and 15 minutes, runnable tasks, all tasks; as they stand there.
pub fn load(text: &str) -> Option<[&str; 5]> {
    let mut words = text.split_whitespace();
    let [one, five, fifteen, tasks] = [words.next()?, words.next()?, words.next()?, words.next()?];
    let (runnable, all) = tasks.split_once('/')?;
    let found = [one, five, fifteen, runnable, all];
    found.iter().all(|word| word.parse().is_ok_and(f64::is_finite)).then_some(found)
}

/// The first numbers of a text; those that are absent are 0, those that are no numbers spoil it.
fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let mut out = [0; N];
    for (place, word) in out.iter_mut().zip(text.split_whitespace()) {
        *place = word.parse().ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_have_names_and_ticks() {
        let stat = "cpu  10 0 5 100 3 0 1 0 0 0\ncpu0 10 0 5 100 3 0 1 0 0 0\nintr 5\nctxt 77\n";
        let cpus = cpus(stat);
        assert_eq!(cpus.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["all", "0"]);
        assert_eq!(cpus[1].1, [10, 0, 5, 100, 3, 0, 1, 0]);
        assert_eq!(value(stat, "ctxt"), Some(77));
        assert_eq!(value("MemFree:  12 kB\n", "MemFree"), Some(12));
        assert_eq!(value("pgfault_x 1\npgfault 2\n", "pgfault"), Some(2));
    }

    #[test]
    fn idle_devices_are_no_disks() {
        let text = " 7 0 loop0 0 0 0 0 0 0 0 0 0 0 0\n 254 0 vda 5 1 80 2 7 3 96 4 1 6 6 0 0 0 0 1 1\n";
        assert_eq!(disks(text).into_iter().collect::<Vec<_>>(), [("vda".into(), [5, 1, 80, 2, 7, 3, 96, 4, 1, 6, 6])]);
    }

    #[test]
    fn interfaces_may_touch_their_first_number() {
        let text = "Inter-| Receive\n face |bytes\n  eth0:100 2 0 1 0 0 0 0 300 4 0 0 0 0 0 0\n";
        assert_eq!(interfaces(text)["eth0"], [100, 2, 0, 1, 300, 4, 0, 0]);
    }

    #[test]
    fn pressure_and_load_are_read() {
        let text = "some avg10=0.02 avg60=2.94 avg300=6.87 total=492\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!((pressure(text, "some"), pressure(text, "full"), pressure("", "some")), (Some(492), Some(7), None));
        assert_eq!(load("0.20 0.18 0.12 1/80 11206\n"), Some(["0.20", "0.18", "0.12", "1", "80"]));
        assert_eq!(load("x 0 0 1/2 3"), None);
    }
}
