//! A job file to begin with: of what hosts were found to have.
use std::{collections::BTreeMap, fmt::Write};

use autoprof_core::{
    Host, Value,
    encoder::ProfilerInfo,
    job::preset,
    manifest::{HostRecord, Manifest, Readiness},
    size::Size,
    text,
};

use crate::{size::bytes, summary::join};

/// What is taken where hosts have it: everything that is cheap enough to be always there.
const USUAL: &str = "heavy";
/// Share of the free disk of the host with the least that profilers may take there; at most [`MOST_QUOTA`].
const QUOTA_SHARE: u64 = 2;
/// What nobody needs to think about, in bytes.
const MOST_QUOTA: u64 = 2 << 30;

/// What there is to choose from, and what was asked for besides hosts.
#[derive(Debug, Default)]
pub struct Choice<'a> {
    /// Every profiler that the survey was made with.
    pub tried: Vec<&'a ProfilerInfo>,
    /// Those that say nothing without arguments.
    pub need_arguments: Vec<&'a ProfilerInfo>,
    /// Lines of the job file that keep what the command line said, such as `tmpdir: /var/tmp/profilers`.
    pub settings: Vec<String>,
}

/// A profiler, and why it does not run where it does not.
struct Verdict<'a> {
    info: &'a ProfilerInfo,
    /// Hosts that answered and on which it would run.
    on: Vec<&'a str>,
    /// Every reason, with the hosts that it holds for.
    not_on: BTreeMap<String, Vec<&'a str>>,
}

/// A commented job file for the hosts of a survey. Hosts that could not be looked at are comments.
#[must_use]
pub fn job_file(survey: &Manifest, choice: &Choice) -> String {
    let (reached, lost): (Vec<_>, Vec<_>) = survey.hosts.values().partition(|host| is_reached(host));
    let verdicts: Vec<Verdict> = choice.tried.iter().map(|info| verdict(info, &reached)).collect();
    let mut out = String::from(
        "# A job of autoprof's. Try `autoprof check FILE`, `autoprof run FILE --dry-run`, then `autoprof run FILE`.\n\
         # `autoprof job schema` prints what else can stand here, as a JSON Schema for editors.\n\n",
    );
    out.push_str(&hosts(&reached, &lost));
    out.push_str(&profilers(&verdicts, &choice.need_arguments));
    out.push_str(&groups(&reached, &verdicts));
    out.push_str(
        "\n# What to run while the profilers collect: PUT YOUR TEST HERE. A list is a program and its arguments,\n\
         # text is for `sh -c`.\ntest:\n  command: [sleep, \"10\"]\n  \
         # directory: bench\n  # env: {RATE: \"500\"}\n  # timeout: 10m\n",
    );
    out.push_str(&limits(&reached));
    if !choice.settings.is_empty() {
        out.push('\n');
        for line in &choice.settings {
            let _ = writeln!(out, "{line}");
        }
    }
    out
}

/// Text of others, to stand behind a `#`: on one line for YAML too, which knows more ends of lines than Rust does.
fn remark(said: &str) -> String {
    text::one_line(said).replace(['\u{2028}', '\u{2029}'], " ")
}

fn is_reached(host: &HostRecord) -> bool {
    host.readiness == Readiness::Surveyed && host.facts.is_some()
}

fn verdict<'a>(info: &'a ProfilerInfo, reached: &[&'a HostRecord]) -> Verdict<'a> {
    let mut verdict = Verdict { info, on: Vec::new(), not_on: BTreeMap::new() };
    for host in reached {
        let name = host.host.name.as_str();
        match host.profilers.get(info.name.as_ref()) {
            Some(record) if record.invocation.is_some() => verdict.on.push(name),
            record => {
                let reason = record.and_then(|record| record.reason.as_deref()).unwrap_or("not known");
                verdict.not_on.entry(remark(reason)).or_default().push(name);
            }
        }
    }
    verdict
}

fn hosts(reached: &[&HostRecord], lost: &[&HostRecord]) -> String {
    let mut out =
        String::from("# Machines to profile: [user@]host[:port], ranges such as web[01-16], or maps.\nhosts:\n");
    for host in reached {
        let about = host.facts.as_ref().map_or_else(String::new, |facts| {
            let os =
                if facts.os.is_empty() { String::new() } else { format!("{}, ", remark(facts.os.as_untrusted_str())) };
            let memory = bytes(facts.memory_kib.saturating_mul(1024));
            format!("{os}kernel {}, {} CPUs, {memory}", remark(facts.kernel.as_untrusted_str()), facts.cpus)
        });
        let _ = writeln!(out, "  - {}  # {about}", written(&host.host));
    }
    for host in lost {
        let why = host.errors.first().map_or_else(String::new, |e| format!("{}: {}", e.step, remark(&e.message)));
        let _ = writeln!(out, "  # - {}  # {why}", written(&host.host));
    }
    out
}

/// A host as an entry of a job file, which is read as the same host.
fn written(host: &Host) -> String {
    let plain = Host { options: BTreeMap::new(), groups: Default::default(), ..host.clone() };
    let user = host.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    let texts = [format!("{user}{}", host.name), format!("{user}[{}]", host.name)];
    if let Some(text) = texts.iter().find(|text| text.parse().is_ok_and(|read: Host| read == plain)) {
        return scalar(text);
    }
    let mut map = vec![("name", host.name.clone())];
    map.extend(host.address.clone().map(|address| ("address", address)));
    map.extend(host.user.clone().map(|user| ("user", user)));
    map.extend(host.port.map(|port| ("port", port.to_string())));
    map.extend(host.identity_file.as_ref().map(|file| ("identity_file", file.to_string())));
    map.extend(host.jump.clone().map(|jump| ("jump", jump)));
    map.push(("transport", host.transport.clone()));
    // A port is a number; everything else is text, whatever it looks like.
    let value = |(key, value): (&str, String)| match key {
        "port" => format!("{key}: {value}"),
        _ => format!("{key}: {}", scalar(&value)),
    };
    format!("{{{}}}", map.into_iter().map(value).collect::<Vec<_>>().join(", "))
}

/// The name of a host where a list names it again.
fn reference(host: &Host) -> String {
    let bare = host.port.is_none() && host.name.contains(':');
    scalar(&if bare { format!("[{}]", host.name) } else { host.name.clone() })
}

/// Text as YAML, quoted where it has to be.
fn scalar(text: &str) -> String {
    Value::Str(text.to_owned()).to_string()
}

fn profilers(verdicts: &[Verdict], need_arguments: &[&ProfilerInfo]) -> String {
    let usual = |verdict: &Verdict| preset(USUAL).is_some_and(|names| names.contains(&verdict.info.name.as_ref()));
    let everywhere = |verdict: &&Verdict| !verdict.on.is_empty() && verdict.not_on.is_empty();
    let mut out = String::from(
        "\n# `autoprof profilers NAME` shows what each takes: perf:frequency=49, or `- perf: {frequency: 49}`. Presets\n\
         # (light, default, heavy) can stand here too; what one brings is skipped on hosts that lack it.\nprofilers:\n",
    );
    let line = |verdict: &Verdict| format!("- {}  # {}\n", verdict.info.name, remark(&verdict.info.summary));
    let taken: Vec<_> = verdicts.iter().filter(everywhere).filter(|v| usual(v)).collect();
    out.push_str("  # These work on every host above.\n");
    taken.iter().for_each(|verdict| out.push_str(&format!("  {}", line(verdict))));
    if taken.is_empty() {
        // None of them runs anywhere: the file is a job all the same, and `check` says why.
        out.push_str("  - light\n");
    }
    let more: Vec<_> = verdicts.iter().filter(everywhere).filter(|v| !usual(v)).collect();
    if !more.is_empty() {
        out.push_str("  # These do as well; they cost more, or see more, than one always wants.\n");
        more.iter().for_each(|verdict| out.push_str(&format!("  # {}", line(verdict))));
    }
    let some: Vec<_> = verdicts.iter().filter(|v| !v.on.is_empty() && !v.not_on.is_empty()).collect();
    if !some.is_empty() {
        out.push_str(
            "  # These work on some hosts: name them in a group of those (below), or the run ends before the test.\n",
        );
    }
    let none: Vec<_> = verdicts.iter().filter(|v| v.on.is_empty() && !v.not_on.is_empty()).collect();
    for verdict in &some {
        out.push_str(&format!("  # {}", line(verdict)));
        for (reason, hosts) in &verdict.not_on {
            let _ = writeln!(out, "  #     not on {}: {reason}", join(hosts));
        }
    }
    if !none.is_empty() {
        out.push_str("  # These work on no host, or not as they are.\n");
    }
    for verdict in &none {
        let reasons: Vec<&str> = verdict.not_on.keys().map(String::as_str).collect();
        let _ = writeln!(out, "  # - {}  # {}", verdict.info.name, reasons.join("; "));
    }
    if !need_arguments.is_empty() {
        out.push_str("  # These need arguments.\n");
        for info in need_arguments {
            let _ = writeln!(out, "  # - {}  # {}", info.name, remark(&info.summary));
        }
    }
    out
}

fn groups(reached: &[&HostRecord], verdicts: &[Verdict]) -> String {
    let mut members: BTreeMap<&str, Vec<&Host>> = BTreeMap::new();
    for host in reached {
        host.host.groups.iter().for_each(|group| members.entry(group).or_default().push(&host.host));
    }
    // A job file's names of groups are narrower than those of an inventory.
    members.retain(|group, _| autoprof_core::groups::is_group_name(group));
    let some = |verdict: &&Verdict| !verdict.on.is_empty() && !verdict.not_on.is_empty();
    let about =
        "\n# Groups of hosts, to be chosen with -g, with profilers in addition (`also`) or instead (`profilers`).\n";
    if members.is_empty() {
        let some: Vec<&Verdict> = verdicts.iter().filter(some).collect();
        let Some(first) = some.first() else {
            return format!("{about}# groups:\n#   db: {{hosts: [db1], also: [perf]}}\n");
        };
        let on: Vec<&str> = first.on.clone();
        let of = reached.iter().filter(|host| on.contains(&host.host.name.as_str()));
        let hosts: Vec<String> = of.map(|host| reference(&host.host)).collect();
        let names = some.iter().filter(|verdict| verdict.on == on).map(|verdict| verdict.info.name.as_ref());
        let also: Vec<&str> = names.collect();
        return format!("{about}# groups:\n#   able: {{hosts: [{}], also: [{}]}}\n", hosts.join(", "), also.join(", "));
    }
    let mut out = format!("{about}groups:\n");
    for (group, hosts) in members {
        let names: Vec<String> = hosts.iter().map(|host| reference(host)).collect();
        let _ = writeln!(out, "  {}:\n    hosts: [{}]", scalar(group), names.join(", "));
        let on_all = |verdict: &&Verdict| hosts.iter().all(|host| verdict.on.contains(&host.name.as_str()));
        let also: Vec<&str> = verdicts.iter().filter(some).filter(on_all).map(|v| v.info.name.as_ref()).collect();
        let also = if also.is_empty() { "perf".to_owned() } else { also.join(", ") };
        let _ = writeln!(out, "    # also: [{also}]");
    }
    out
}

fn limits(reached: &[&HostRecord]) -> String {
    let free = reached.iter().filter_map(|host| Some((host.facts.as_ref()?.free_bytes, host.host.name.as_str()))).min();
    let quota = free.map_or(MOST_QUOTA, |(free, _)| (free / QUOTA_SHARE).min(MOST_QUOTA));
    let least =
        free.map_or_else(String::new, |(free, host)| format!("; the least that is free is {} on {host}", bytes(free)));
    format!(
        "\n# When clients end by themselves, whatever becomes of the controller.\nlimits:\n  \
         max_duration: 2h  # longer than your test ever takes\n  \
         lease: 5m         # without hearing from the controller\n  \
         host_quota: {}  # of the disk of a host, for all profilers{least}\n",
        Size((quota >> 20).max(1) << 20)
    )
}

#[cfg(test)]
mod tests {
    use autoprof_core::{
        Args,
        event::{HostEvent, RunEvent, RunEventKind},
        job::{JobFile, Require},
        manifest::HostError,
        protocol::{HostFacts, Invocation},
    };

    use super::*;

    fn at(kind: RunEventKind) -> RunEvent {
        RunEvent { at: "2026-01-02T03:04:05Z".parse().unwrap(), kind }
    }

    fn survey(hosts: &[Host]) -> Manifest {
        let created = RunEventKind::Created {
            id: "check".into(),
            autoprof: "0".into(),
            controller: String::new(),
            require: Require::All,
            test: None,
            hosts: hosts.to_vec(),
            settings: Box::default(),
        };
        Manifest::begin(&at(created)).unwrap()
    }

    fn found(survey: &mut Manifest, host: &str, profilers: &[(&str, Result<(), &str>)]) {
        let facts =
            HostFacts { kernel: "6.1\u{2028}test: {command: evil}".into(), free_bytes: 1 << 30, ..Default::default() };
        let mut events = vec![HostEvent::Facts { facts: facts.into() }];
        for (name, verdict) in profilers {
            let (profiler, args) = ((*name).to_owned(), Args::new());
            events.push(match verdict {
                Ok(()) => {
                    let invocation = Invocation::default().into();
                    HostEvent::Planned { profiler, preset: None, args, invocation, tool_version: None }
                }
                Err(reason) => HostEvent::Refused { profiler, args, reason: (*reason).to_owned() },
            });
        }
        for event in events {
            survey.apply(&at(RunEventKind::Host { host: host.into(), event }));
        }
    }

    fn info(name: &str) -> ProfilerInfo {
        ProfilerInfo { name: name.to_owned().into(), ..ProfilerInfo::new("", "a summary") }
    }

    #[test]
    fn every_kind_of_host_comes_back_as_it_was() {
        let mut here = Host::named("here");
        here.transport = "local".into();
        let described = Host {
            address: Some("192.0.2.9".into()),
            user: Some("yes".into()),
            identity_file: Some("/keys/a b".into()),
            jump: Some("gate:22".into()),
            port: Some(2200),
            ..Host::named("true")
        };
        let texts = ["local", "web01", "root@db:2222", "[2001:db8::1]", "a@[2001:db8::1]:22", "10"];
        let mut hosts: Vec<Host> = texts.iter().map(|text| text.parse().unwrap()).collect();
        hosts.extend([here, described]);
        for host in hosts {
            let job = JobFile::parse(&format!("hosts:\n  - {}\n", written(&host))).unwrap();
            let read: Vec<Host> = job.all_hosts().unwrap().into_iter().map(|known| known.host).collect();
            assert_eq!(read, [host]);
        }
    }

    #[test]
    fn what_works_everywhere_is_taken_and_the_rest_is_said() {
        let db = Host { groups: ["db".to_owned()].into(), ..Host::named("db1") };
        let mut survey = survey(&[Host::named("web1"), db, Host::named("gone")]);
        let lacks = Err("perf is not installed\nx: y");
        found(&mut survey, "web1", &[("proc", Ok(())), ("perf", lacks), ("tcpdump", Ok(())), ("turbostat", lacks)]);
        found(&mut survey, "db1", &[("proc", Ok(())), ("perf", Ok(())), ("tcpdump", Ok(())), ("turbostat", lacks)]);
        let error = HostError { step: "connect".into(), message: "refused\nhosts: [x]".into(), hint: None };
        survey.apply(&at(RunEventKind::Host { host: "gone".into(), event: HostEvent::Failed { error } }));
        let infos = ["proc", "perf", "tcpdump", "turbostat", "command"].map(info);
        let choice = Choice {
            tried: infos[..4].iter().collect(),
            need_arguments: vec![&infos[4]],
            settings: vec!["tmpdir: /var/tmp/profilers".into()],
        };
        let text = job_file(&survey, &choice);
        let job = JobFile::parse(&text).unwrap();
        let names: Vec<String> = job.all_hosts().unwrap().into_iter().map(|known| known.host.name).collect();
        assert_eq!(names, ["db1", "web1"], "{text}");
        assert_eq!(job.profilers.iter().map(|p| p.0.name.as_str()).collect::<Vec<_>>(), ["proc"], "{text}");
        assert_eq!(job.groups["db"].hosts.len(), 1);
        assert_eq!(job.test.unwrap().command.argv, ["sleep", "10"], "no host has a say in what is run");
        assert_eq!(job.limits.host_quota.unwrap().0, 512 << 20);
        assert_eq!(job.tmpdir.as_deref(), Some("/var/tmp/profilers"));
        for line in [
            "  # - gone  # connect: refused; hosts: [x]\n",
            "  # - tcpdump  # a summary\n",
            "  # - perf  # a summary\n  #     not on web1: perf is not installed; x: y\n",
            "    # also: [perf]\n",
            "  # - turbostat  # perf is not installed; x: y\n",
            "  # - command  # a summary\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }

    #[test]
    fn without_groups_one_is_shown_of_those_that_can_do_more() {
        let mut survey = survey(&[Host::named("a"), "[2001:db8::1]".parse().unwrap()]);
        found(&mut survey, "a", &[("perf", Err("no"))]);
        found(&mut survey, "2001:db8::1", &[("perf", Ok(()))]);
        let perf = info("perf");
        let text = job_file(&survey, &Choice { tried: vec![&perf], ..Choice::default() });
        assert!(text.contains("#   able: {hosts: [\"[2001:db8::1]\"], also: [perf]}\n"), "{text}");
        let taken = text.replace("# groups:\n#   able", "groups:\n  able");
        let job = JobFile::parse(&taken).unwrap();
        assert_eq!((job.all_hosts().unwrap().len(), job.groups.len()), (2, 1), "{taken}");
        assert_eq!(job.profilers[0].0.name, "light");
    }
}
