//! The client by itself: markers typed by a person, early and stale ones, no wake-ups while it waits.
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::DirBuilderExt as _,
    process::{Child, Command, Stdio},
};

use autoprof_protocol::{
    ControlFile, DiskLimits, Event, EventKind, Invocation, Limits, Marker, ProfilerEntry, Start, Task,
};
use camino::Utf8PathBuf;

use crate::support::Scratch;

/// Makes a directory as the installation does: nobody else's to look into.
fn make_private(dir: &Utf8PathBuf) {
    fs::DirBuilder::new().mode(0o700).create(dir).unwrap();
}

/// A client in a directory of its own, and the line to it.
struct Client {
    dir: Utf8PathBuf,
    program: Utf8PathBuf,
    attached: Child,
    events: BufReader<std::process::ChildStdout>,
    _scratch: Scratch,
}

impl Client {
    /// Launches a client that runs `sleep`; `before` sees its directory first.
    fn launch(before: impl FnOnce(&Utf8PathBuf)) -> Self {
        Self::launch_and_attach_by(&[], before)
    }

    /// The same, with a command before that of attaching.
    fn launch_and_attach_by(wrapper: &[&str], before: impl FnOnce(&Utf8PathBuf)) -> Self {
        let scratch = Scratch::new();
        let dir = scratch.path("autoprof-test");
        make_private(&dir);
        let program = lab::stage().join("lib/autoprof/clients").join(std::env::consts::ARCH).join("autoprof-client");
        before(&dir);
        let start = Start { argv: vec!["sleep".into(), "600".into()], ..Start::default() };
        let control = ControlFile {
            version: autoprof_protocol::PROTOCOL_VERSION,
            run: "r".into(),
            host: "h".into(),
            profilers: vec![ProfilerEntry {
                name: "sleeper".into(),
                invocation: Invocation { start: Some(start), ..Invocation::default() },
            }],
            segment: 1,
            after: 0,
            task: Task::Profile,
            limits: Limits { lease_ms: None, max_duration_ms: 600_000, disk: DiskLimits::default() },
        };
        let file = scratch.write("control", &serde_json::to_string(&control).unwrap());
        let launched =
            Command::new(&program).args(["launch", dir.as_str()]).stdin(fs::File::open(file).unwrap()).status();
        assert!(launched.unwrap().success());
        let attach = [wrapper, &[program.as_str(), "attach", dir.as_str()]].concat();
        let mut attached =
            Command::new(attach[0]).args(&attach[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let events = BufReader::new(attached.stdout.take().unwrap());
        Self { dir, program, attached, events, _scratch: scratch }
    }

    /// Reads events until one of them is what is waited for.
    fn expect(&mut self, what: impl Fn(&EventKind) -> bool) -> Event {
        loop {
            let mut line = String::new();
            assert!(self.events.read_line(&mut line).unwrap() > 0, "the client ended");
            let event: Event = serde_json::from_str(&line).unwrap();
            if what(&event.kind) {
                return event;
            }
        }
    }

    fn type_marker(&self, name: &str, content: &str) {
        let line = format!("echo '{content}' > {}/profiler.{name}", self.dir);
        assert!(Command::new("sh").args(["-c", &line]).status().unwrap().success());
    }

    /// Runs through all steps by markers that a person types.
    fn finish(mut self) {
        self.type_marker("stop", "A");
        self.expect(|e| matches!(e, EventKind::Stopped));
        self.type_marker("report", "A");
        self.expect(|e| matches!(e, EventKind::Reported));
        assert!(self.attached.wait().unwrap().success());
        let cleaned = Command::new(&self.program).args(["clean", self.dir.as_str()]).status().unwrap();
        assert!(cleaned.success() && !self.dir.exists());
    }
}

fn ready(e: &EventKind) -> bool {
    matches!(e, EventKind::Ready { .. })
}

fn started(e: &EventKind) -> bool {
    matches!(e, EventKind::Started { collecting } if collecting == &["sleeper"])
}

#[test]
fn markers_typed_by_a_person_work() {
    let mut client = Client::launch(|_| {});
    client.expect(ready);
    client.type_marker("start", "A");
    client.expect(started);
    client.finish();
}

#[test]
fn it_is_heard_also_where_the_kernel_gives_no_watches() {
    if lab::skip_unless_namespaces() {
        return;
    }
    // A namespace of users has limits of its own.
    let script = "echo 0 > /proc/sys/user/max_inotify_instances && exec \"$@\"";
    let mut client = Client::launch_and_attach_by(&["unshare", "-Ur", "sh", "-c", script, "sh"], |_| {});
    client.expect(ready);
    client.type_marker("start", "A");
    client.expect(started);
    client.finish();
}

#[test]
fn a_marker_written_before_the_client_is_up_still_starts_it() {
    let mut client = Client::launch(|dir| fs::write(dir.join("profiler.start"), "A\n").unwrap());
    client.expect(started);
    client.finish();
}

#[test]
fn three_markers_written_at_once_still_give_a_window_with_a_beginning_and_an_end() {
    let mut client = Client::launch(|dir| {
        for name in ["start", "stop", "report"] {
            fs::write(dir.join(format!("profiler.{name}")), "A\n").unwrap();
        }
    });
    client.expect(started);
    client.expect(|e| matches!(e, EventKind::Ended(ended) if ended.profiler == "sleeper"));
    client.expect(|e| matches!(e, EventKind::Reported));
}

#[test]
fn a_marker_with_an_instant_is_obeyed_at_that_instant() {
    let mut client = Client::launch(|_| {});
    let now = client.expect(ready).at.unix_ns;
    let at = now + 700_000_000;
    client.type_marker("start", &format!("A {}.{:09}", at / 1_000_000_000, at % 1_000_000_000));
    let scheduled = client.expect(|e| matches!(e, EventKind::Scheduled { .. }));
    let EventKind::Scheduled { marker: Marker::Start, planned, late_ns: 0 } = scheduled.kind else {
        panic!("{scheduled:?}")
    };
    assert!(planned.unix_ns == at && scheduled.at.unix_ns < at, "{scheduled:?}");
    let began = client.expect(|e| matches!(e, EventKind::Began { .. })).at.unix_ns;
    assert!(began >= at, "{} ns early", at - began);
    client.finish();
}

#[test]
fn a_marker_with_an_instant_that_is_over_is_obeyed_at_once_and_its_lateness_said() {
    let mut client = Client::launch(|_| {});
    let at = client.expect(ready).at.unix_ns - 3_000_000_000;
    client.type_marker("start", &format!("A {}.{:09}", at / 1_000_000_000, at % 1_000_000_000));
    let scheduled = client.expect(|e| matches!(e, EventKind::Scheduled { .. }));
    let EventKind::Scheduled { late_ns, .. } = scheduled.kind else { unreachable!() };
    assert!(late_ns >= 3_000_000_000, "{late_ns}");
    client.expect(started);
    client.finish();
}

#[test]
fn a_second_client_in_one_directory_is_refused() {
    let mut client = Client::launch(|_| {});
    client.expect(ready);
    let second = Command::new(&client.program).args(["run", client.dir.as_str()]).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another client is in charge"), "{second:?}");
    client.type_marker("start", "A");
    client.expect(started);
    client.finish();
}

#[test]
fn a_waiting_client_does_not_wake_up_and_is_small() {
    let mut client = Client::launch(|_| {});
    let event = client.expect(ready);
    let EventKind::Ready { pid, .. } = event.kind else { panic!("not ready") };
    let status = |key: &str| -> u64 {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_else(|| panic!("{key}"));
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    // The window in which wake-ups are counted begins once the client sleeps.
    while !fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") S ") {
        std::thread::yield_now();
    }
    let before = status("voluntary_ctxt_switches:");
    let beat = std::time::Instant::now();
    while beat.elapsed() < std::time::Duration::from_secs(2) {
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    assert_eq!(status("voluntary_ctxt_switches:"), before, "woken up while waiting");
    assert!(status("VmRSS:") <= 4096, "{} KiB resident", status("VmRSS:"));
    client.type_marker("start", "A");
    client.expect(started);
    client.finish();
}

#[test]
fn a_client_whose_controller_never_comes_ends_by_its_lease() {
    let scratch = Scratch::new();
    let dir = scratch.path("autoprof-lease");
    make_private(&dir);
    let program = lab::stage().join("lib/autoprof/clients").join(std::env::consts::ARCH).join("autoprof-client");
    let control =
        r#"{"version":3,"run":"r","host":"h","limits":{"lease_ms":300,"max_duration_ms":600000},"profilers":[]}"#;
    let control = scratch.write("control", control);
    fs::copy(&control, dir.join("control.yaml")).unwrap();
    let done = lab::run(Command::new(&program).args(["run", dir.as_str()]), crate::support::LONG);
    assert_eq!(done.code(), 0, "{done}");
    let events = fs::read_to_string(dir.join("events.jsonl")).unwrap();
    assert!(events.contains("\"limit\":\"lease\"") && events.trim_end().ends_with("}"), "{events}");
    assert!(events.lines().last().unwrap().contains("\"reported\""), "{events}");
}

/// An attach process of a directory where no client comes up.
fn attach_without_client(scratch: &Scratch) -> (Utf8PathBuf, Utf8PathBuf, Child) {
    let dir = scratch.path("autoprof-test");
    make_private(&dir);
    // As it is installed: in the directory itself.
    let program = dir.join("autoprof-client");
    let built = lab::stage().join("lib/autoprof/clients").join(std::env::consts::ARCH).join("autoprof-client");
    fs::copy(built, &program).unwrap();
    let mut attach = Command::new(&program);
    let attached = attach.args(["attach", dir.as_str()]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    (dir, program, attached)
}

#[test]
fn an_attach_process_ends_with_its_input_also_where_no_client_comes_up() {
    let scratch = Scratch::new();
    let (_, _, mut attached) = attach_without_client(&scratch);
    drop(attached.stdin.take());
    let within = std::time::Duration::from_secs(10);
    assert!(lab::wait_until(within, || attached.try_wait().unwrap().is_some()), "it waits for a client");
}

#[test]
fn clean_ends_an_attach_process_whose_line_is_still_open() {
    let scratch = Scratch::new();
    let (dir, program, mut attached) = attach_without_client(&scratch);
    let cleaned = Command::new(&program).args(["clean", dir.as_str()]).status().unwrap();
    let ended = attached.try_wait().unwrap().is_some();
    if !ended {
        attached.kill().unwrap();
        attached.wait().unwrap();
    }
    assert!(cleaned.success() && ended && !dir.exists());
}
