//! The system calls that have no safe wrapper: the only `unsafe` of the client.
#![allow(unsafe_code)]
use std::{
    io,
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::Command,
    sync::atomic::{AtomicBool, AtomicI32, Ordering},
};

use autoprof_protocol::StopSignal;

/// Signals that ask the client itself to end.
const END_SIGNALS: [libc::c_int; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

/// Gives every signal its default disposition.
///
/// A shell that starts a command with `&` leaves `SIGINT` ignored in it, and ignored signals are inherited through
/// `exec`: tools such as vmstat would then not react to the signal that is to end them.
pub fn reset_signal_dispositions() {
    for signal in 1..=libc::SIGSYS {
        // SAFETY: `signal` with SIG_DFL installs no code; for SIGKILL and SIGSTOP it fails and changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// Blocks the signals that ask the client to end and hands them out through a descriptor.
///
/// # Errors
/// When the kernel has no descriptor left.
pub fn end_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero `sigset_t` is valid memory for `sigemptyset`, which initialises it.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` is a live sigset; the numbers are valid signals.
    unsafe {
        libc::sigemptyset(&raw mut set);
        for signal in END_SIGNALS {
            libc::sigaddset(&raw mut set, signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: -1 asks for a new descriptor; `set` lives through the call.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just made and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Has this process woken at the instants that it asks for, instead of up to 50 µs later together with others: it asks
/// for few, and those are when profilers begin, sample and end.
pub fn wake_on_time() {
    // SAFETY: the call takes numbers alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// How a command is set up between `fork` and `exec`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// What a process has by default: a profiler in its window.
    Normal,
    /// As the client itself while profilers collect: a tool that samples.
    Sampling,
    /// Behind everything else on the host: work that is done when the test is over.
    Low,
}

/// What a command makes of `SIGHUP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hangup {
    /// It ends, as it does by default: it is how it is stopped.
    Heeded,
    /// Nothing, as under nohup(1): a host that shuts down sends `SIGTERM` and `SIGHUP` together (`SendSIGHUP=yes` of
    /// logind's scopes), and perf would die of the one before it has closed its file on the other.
    Ignored,
}

/// Makes a command end when the client does, gives it its priority and bounds the files that it writes.
pub fn prepare_child(command: &mut Command, priority: Priority, file_limit: u64, hangup: Hangup) {
    command.process_group(0);
    // SAFETY: the closure runs in the child between `fork` and `exec` and makes only async-signal-safe system calls.
    unsafe {
        command.pre_exec(move || {
            // The client has blocked the signals that it reads from a descriptor; a tool must get them.
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            if libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
            if hangup == Hangup::Ignored {
                libc::signal(libc::SIGHUP, libc::SIG_IGN);
            }
            // What the kernel gives by default; a child has that of its parent.
            libc::prctl(libc::PR_SET_TIMERSLACK, 50_000);
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) != 0 {
                return Err(io::Error::last_os_error());
            }
            // No core dumps among the results; a file that is too long ends its writer by SIGXFSZ. A limit that is lower
            // already stays. Both kinds are lowered: pam_limits(8), through which sudo goes, sets the one that can be
            // raised anew.
            for (resource, most) in [(libc::RLIMIT_CORE, 0), (libc::RLIMIT_FSIZE, file_limit)] {
                let mut limit: libc::rlimit = std::mem::zeroed();
                if libc::getrlimit(resource, &raw mut limit) == 0 {
                    limit.rlim_cur = limit.rlim_cur.min(most);
                    limit.rlim_max = limit.rlim_max.min(most);
                    libc::setrlimit(resource, &raw const limit);
                }
            }
            // The client's own bound would kill a tool, which does not expect its signal.
            let mut bound: libc::rlimit = std::mem::zeroed();
            if libc::getrlimit(libc::RLIMIT_RTTIME, &raw mut bound) == 0 {
                bound.rlim_cur = bound.rlim_max;
                libc::setrlimit(libc::RLIMIT_RTTIME, &raw const bound);
            }
            match priority {
                // A client that has no real-time priority has its niceness from its parent, as it is.
                Priority::Sampling if REALTIME.load(Ordering::Relaxed) => drop(set_policy(0, libc::SCHED_RR, 1)),
                Priority::Sampling => {}
                Priority::Normal => match ORIGINAL_NICE.load(Ordering::Relaxed) {
                    UNCHANGED => {}
                    nice => drop(libc::setpriority(libc::PRIO_PROCESS, 0, nice)),
                },
                Priority::Low => step_back(),
            }
            Ok(())
        });
    }
}

/// Whether this process has a real-time priority, which tools that sample then get too.
static REALTIME: AtomicBool = AtomicBool::new(false);
/// The niceness that this process began with, where it has another one by now.
static ORIGINAL_NICE: AtomicI32 = AtomicI32::new(UNCHANGED);
const UNCHANGED: i32 = i32::MIN;

/// Gives this process the lowest real-time priority, with a bound on how long it may use a CPU without a pause. Its
/// children begin with an ordinary one.
///
/// # Errors
/// When it may not have one: `EPERM` also where the control group has no real-time runtime (`cpu.rt_runtime_us`).
pub fn become_realtime(longest_run_us: u64) -> io::Result<()> {
    extern "C" fn overran(_: libc::c_int) {
        // At once, not when the client comes to look: it may never.
        become_ordinary();
        crate::scheduling::OVERRAN.store(true, Ordering::Relaxed);
    }
    // SAFETY: the handler makes only async-signal-safe calls and stores to atomics.
    unsafe { libc::signal(libc::SIGXCPU, overran as *const () as libc::sighandler_t) };
    // SAFETY: an all-zero `rlimit` is valid, and lives through both calls.
    unsafe {
        let mut bound: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_RTTIME, &raw mut bound) != 0 {
            return Err(io::Error::last_os_error());
        }
        bound.rlim_cur = bound.rlim_max.min(longest_run_us);
        if libc::setrlimit(libc::RLIMIT_RTTIME, &raw const bound) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    set_policy(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, 1)?;
    REALTIME.store(true, Ordering::Relaxed);
    Ok(())
}

/// Takes a real-time priority from this process.
pub fn become_ordinary() {
    REALTIME.store(false, Ordering::Relaxed);
    make_ordinary(0);
}

/// Takes a real-time priority from a process; 0 is this one.
pub fn make_ordinary(pid: u32) {
    let _ = set_policy(pid, libc::SCHED_OTHER, 0);
}

fn set_policy(pid: u32, policy: libc::c_int, priority: libc::c_int) -> io::Result<()> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    // SAFETY: an all-zero `sched_param` is valid.
    let mut param: libc::sched_param = unsafe { std::mem::zeroed() };
    param.sched_priority = priority;
    // SAFETY: `param` lives through the call.
    if unsafe { libc::sched_setscheduler(pid, policy, &raw const param) } == 0 {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

/// Makes this process less nice than others, if it may; its ordinary children are as nice as it was.
pub fn raise_nice() -> bool {
    // SAFETY: the calls take numbers alone. A niceness of -1 is told from an error by what comes of setting another.
    let (before, raised) =
        unsafe { (libc::getpriority(libc::PRIO_PROCESS, 0), libc::setpriority(libc::PRIO_PROCESS, 0, -20) == 0) };
    if raised {
        ORIGINAL_NICE.store(before, Ordering::Relaxed);
    }
    raised
}

/// Gives this process's session another share of the CPUs (sched(7), autogroups), if it may.
pub fn set_autogroup(nice: i32) -> bool {
    let enabled = std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled");
    enabled.is_ok_and(|text| text.trim() == "1") && std::fs::write("/proc/self/autogroup", nice.to_string()).is_ok()
}

/// Puts this process behind everything else on the host: its CPUs and its disks.
pub fn step_back() {
    const WHO_PROCESS: libc::c_int = 1;
    /// The last of the eight levels of the usual class (`ioprio_set(2)`). In the idle class it would wait for as long as
    /// anybody else uses the disk, and a controller for it.
    const BEST_EFFORT_LAST: libc::c_int = (2 << 13) | 7;
    // SAFETY: both calls take numbers alone, and are async-signal-safe system calls.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 19);
        libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, BEST_EFFORT_LAST);
    }
}

/// User and system time of this process so far, in microseconds.
pub fn own_cpu_us() -> u64 {
    // SAFETY: an all-zero `rusage` is valid, and live through the call.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the out-parameter is of the right type.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return 0;
    }
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

fn micros(time: libc::timeval) -> u64 {
    u64::try_from(time.tv_sec * 1_000_000 + time.tv_usec).unwrap_or(0)
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildEnd {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal number, when one ended it.
    pub signal: Option<i32>,
    /// User and system time of the child and of the children that it waited for, in microseconds.
    pub cpu_us: u64,
}

/// Takes the end of a child if there is one; does not block.
///
/// # Errors
/// When there is no such child.
pub fn try_wait(pid: u32) -> io::Result<Option<ChildEnd>> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut status = 0;
    // SAFETY: an all-zero `rusage` is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both out-parameters are live and of the right type.
    let got = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, &raw mut usage) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    if got == 0 {
        return Ok(None);
    }
    Ok(Some(ChildEnd {
        code: libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status)),
        signal: libc::WIFSIGNALED(status).then(|| libc::WTERMSIG(status)),
        cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime),
    }))
}

/// Takes the ends of children that are none of `tools`: what tools left behind came to this process when they ended.
pub fn reap_strangers(tools: &[u32]) {
    loop {
        // SAFETY: an all-zero `siginfo_t` is valid; `waitid` fills it.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is live and of the right type.
        let got = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, options) };
        // SAFETY: after a successful call the process id is the active field, 0 when nobody has ended.
        let pid = if got == 0 { unsafe { info.si_pid() } } else { 0 };
        match u32::try_from(pid) {
            Ok(pid @ 1..) if !tools.contains(&pid) => drop(try_wait(pid)),
            _ => return,
        }
    }
}

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// It was sent.
    Sent,
    /// Nobody is there any more.
    Gone,
    /// They are all somebody else's: root's, by sudo.
    Refused,
}

/// Signals a whole process group, one that this client made.
pub fn signal_group(leader: u32, signal: libc::c_int) -> Signalled {
    let Ok(leader @ 2..) = libc::pid_t::try_from(leader) else { return Signalled::Gone };
    // SAFETY: `kill` touches no memory of ours.
    if unsafe { libc::kill(-leader, signal) } == 0 {
        return Signalled::Sent;
    }
    if io::Error::last_os_error().raw_os_error() == Some(libc::EPERM) { Signalled::Refused } else { Signalled::Gone }
}

/// Whether a process group has any member.
pub fn group_exists(leader: u32) -> bool {
    // Signal 0 only asks.
    signal_group(leader, 0) != Signalled::Gone
}

/// The number of a stop signal.
pub const fn number(signal: StopSignal) -> libc::c_int {
    match signal {
        StopSignal::Interrupt => libc::SIGINT,
        StopSignal::Terminate => libc::SIGTERM,
        StopSignal::Hangup => libc::SIGHUP,
        StopSignal::User1 => libc::SIGUSR1,
        StopSignal::User2 => libc::SIGUSR2,
    }
}

/// The name of a signal, without `SIG`.
pub fn signal_name(number: i32) -> String {
    let name = match number {
        libc::SIGHUP => "HUP",
        libc::SIGINT => "INT",
        libc::SIGQUIT => "QUIT",
        libc::SIGILL => "ILL",
        libc::SIGABRT => "ABRT",
        libc::SIGBUS => "BUS",
        libc::SIGFPE => "FPE",
        libc::SIGKILL => "KILL",
        libc::SIGUSR1 => "USR1",
        libc::SIGSEGV => "SEGV",
        libc::SIGUSR2 => "USR2",
        libc::SIGPIPE => "PIPE",
        libc::SIGALRM => "ALRM",
        libc::SIGTERM => "TERM",
        libc::SIGXFSZ => "XFSZ",
        other => return other.to_string(),
    };
    name.to_owned()
}

/// Kinds of counters to try out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// The CPU's cycle counter.
    Cycles,
    /// The kernel's CPU clock, sampled.
    CpuClock,
}

/// Whether this process may open a counter for everything that runs on CPU 0.
///
/// This is what `perf -a` does first; trying it is the only answer that holds for every kernel and every security
/// module (Debian's own kernels know a `perf_event_paranoid` of 3 that mainline does not).
pub fn can_count_system_wide(counter: Counter) -> bool {
    const PERF_TYPE_HARDWARE: u32 = 0;
    const PERF_TYPE_SOFTWARE: u32 = 1;
    const SIZE_VER0: u32 = 64;
    /// `struct perf_event_attr`, first published size (linux/perf_event.h).
    #[repr(C)]
    struct Attr {
        kind: u32,
        size: u32,
        config: u64,
        sample_period: u64,
        sample_type: u64,
        read_format: u64,
        flags: u64,
        rest: [u64; 2],
    }
    const DISABLED: u64 = 1;
    let (kind, sample_period) = match counter {
        Counter::Cycles => (PERF_TYPE_HARDWARE, 0),
        Counter::CpuClock => (PERF_TYPE_SOFTWARE, 1_000_000_000),
    };
    let attr = Attr {
        kind,
        size: SIZE_VER0,
        config: 0,
        sample_period,
        sample_type: 0,
        read_format: 0,
        flags: DISABLED,
        rest: [0; 2],
    };
    const ANY_PROCESS: libc::pid_t = -1;
    const NO_GROUP: libc::c_int = -1;
    const FLAG_CLOEXEC: libc::c_ulong = 8;
    // SAFETY: `attr` is a valid perf_event_attr of the size that it names; the call only makes a descriptor.
    let fd =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attr, ANY_PROCESS, 0, NO_GROUP, FLAG_CLOEXEC) };
    match libc::c_int::try_from(fd) {
        Ok(fd @ 0..) => {
            // SAFETY: `fd` was just made and nobody else has it.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            true
        }
        _ => false,
    }
}
