//! Any command as a profiler: one that runs from start to stop, one that is run again and again, or log files that are
//! followed.
#![forbid(unsafe_code)]

mod torn;

use autoprof_plugin::prelude::*;

/// Where what is printed goes unless the user says otherwise.
const OUTPUT: &str = "command.txt";

const PARAMS: &[Param] = &[
    Param::new("command", ParamType::String, "a command line for the host's sh"),
    Param::new("argv", ParamType::Strings, "a program and its arguments, without a shell"),
    Param::new("follow", ParamType::Strings, "files whose new lines are taken, such as logs"),
    Param::new("poll", ParamType::Number, "run it again and again, this often, each time to its end")
        .unit("s")
        .range("0.01..86400"),
    Param::new("output", ParamType::String, "file for what it prints").default(OUTPUT),
    Param::new("stop_signal", ParamType::String, "the signal that ends it")
        .default("INT")
        .range("INT|TERM|HUP|USR1|USR2"),
    Param::new("grace", ParamType::Number, "time to end after that signal").default("10").unit("s").range("0..3600"),
    Param::new("may_end", ParamType::Bool, "ending before the stop is no failure").default("false"),
    Param::new("environment", ParamType::String, "variables: all of the login's, or only those that tools get")
        .default("login")
        .range("login|clean"),
];

/// command as users know it.
pub const COMMAND: ProfilerInfo =
    ProfilerInfo::new("command", "any command: started and stopped, polled, or a log followed")
        .params(PARAMS)
        .tools("tail")
        .example("sh -c 'exec cat /sys/kernel/tracing/trace_pipe'");

/// Adds the encoder of command.
///
/// # Errors
/// When there is a profiler of this name already.
pub fn register(registry: &mut Registry) -> Result<(), AlreadyRegistered> {
    registry.add_encoder(Arc::new(UserCommand))
}

export_plugin!(register, profilers = [COMMAND]);

/// Runs what the user says and keeps what it prints.
#[derive(Debug, Clone, Copy, Default)]
pub struct UserCommand;

impl ArgEncoder for UserCommand {
    fn profiler(&self) -> &ProfilerInfo {
        // A constant that could be dropped has no address of its own.
        static INFO: ProfilerInfo = COMMAND;
        &INFO
    }

    fn encode(&self, args: &Args, facts: &HostFacts) -> Result<Invocation, ArgError> {
        let what = What::of(args)?;
        if matches!(what, What::Follow(_)) {
            autoprof_plugin::installed(facts, "tail", "coreutils (Debian, Fedora)")?;
        }
        let output = plain_name(args.string("output").unwrap_or(OUTPUT))?;
        let stop = Stop { signal: stop_signal(args)?, grace_ms: milliseconds(args.number("grace").unwrap_or(10.0)) };
        // A command may well have nothing to say; that is not a failure.
        let outputs = vec![Output { file: output.clone(), format: OutputFormat::Text, required: false }];
        // It is the user's own command, and may need what their login sets; what we run ourselves does not.
        let environment = match (args.string("environment"), &what) {
            (Some("clean"), _) | (_, What::Follow(_)) => Environment::Clean,
            _ => Environment::Login,
        };
        let mut invocation = Invocation { environment, stop, outputs, ..Invocation::default() };
        match (args.number("poll"), &what) {
            (Some(_), What::Follow(_)) => return Err(conflict("follow and poll exclude each other")),
            (Some(seconds), _) => {
                invocation.poll = Some(Poll { every_ms: milliseconds(seconds), argv: what.argv(), output });
                // What only looks can be begun anew; whether a command can be is for its user to say.
                invocation.restart_after_reboot = true;
            }
            (None, _) => {
                invocation.restart_after_reboot = matches!(what, What::Follow(_));
                let may_end = args.flag("may_end");
                invocation.start = Some(Start { argv: what.argv(), stdout: Some(output), may_end, ..Start::default() });
            }
        }
        Ok(invocation)
    }

    fn convert(&self, raw: &RawResults) -> Result<Vec<Table>, ConvertError> {
        let output = plain_name(raw.args.string("output").unwrap_or(OUTPUT));
        let output = output.map_err(|e| ConvertError::new(ConvertErrorKind::Format, e.message))?;
        Ok(torn::repair(raw, &output, raw.args.number("poll").is_some())?.into_iter().collect())
    }
}

/// The one thing that is to be run.
enum What<'a> {
    Shell(&'a str),
    Argv(Vec<&'a str>),
    Follow(Vec<&'a str>),
}

impl<'a> What<'a> {
    fn of(args: &'a Args) -> Result<Self, ArgError> {
        let (command, argv, follow) = (args.string("command"), args.strings("argv"), args.strings("follow"));
        let given = ["command", "argv", "follow"].iter().filter(|name| args.named.contains_key(**name)).count();
        if given != 1 {
            let how = if given == 0 { "none of them is given" } else { "they exclude each other" };
            return Err(conflict(format!("one of command, argv and follow is needed: {how}"))
                .with_hint("such as command:'dmesg --follow', or command:argv=[dmesg, --follow]"));
        }
        let empty = |words: &[&str]| words.first().is_none_or(|word| word.trim().is_empty());
        if command.is_some_and(|text| text.trim().is_empty()) || (command.is_none() && empty(&argv) && empty(&follow)) {
            return Err(ArgError::new(ArgErrorKind::Range, "there is no command in it"));
        }
        if command.into_iter().chain(argv.iter().copied()).chain(follow.iter().copied()).any(|t| t.contains('\0')) {
            return Err(ArgError::new(ArgErrorKind::Range, "a command cannot have a zero byte in it"));
        }
        match command {
            Some(text) => Ok(Self::Shell(text)),
            None if argv.is_empty() => Ok(Self::Follow(follow)),
            None => Ok(Self::Argv(argv)),
        }
    }

    fn argv(&self) -> Vec<String> {
        let (before, words): (&[&str], &[&str]) = match self {
            Self::Shell(text) => (&["sh", "-c"], &[text]),
            Self::Argv(words) => (&[], words),
            // From the end that the file has at the start, through rotation; a name may begin with a dash.
            Self::Follow(files) => (&["tail", "-n", "0", "-F", "--"], files),
        };
        before.iter().chain(words).map(|word| (*word).to_owned()).collect()
    }
}

fn conflict(message: impl Into<String>) -> ArgError {
    ArgError::new(ArgErrorKind::Conflict, message)
}

/// A name that stays in the profiler's directory.
fn plain_name(name: &str) -> Result<String, ArgError> {
    let fits = name.len() <= 200 && !name.is_empty() && !name.starts_with(['.', '-']);
    if fits && !name.contains('/') && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(ArgError::new(ArgErrorKind::Range, format!("output is {name:?}, which is not a plain file name")))
}

fn stop_signal(args: &Args) -> Result<StopSignal, ArgError> {
    Ok(match args.string("stop_signal").unwrap_or("INT") {
        "INT" => StopSignal::Interrupt,
        "TERM" => StopSignal::Terminate,
        "HUP" => StopSignal::Hangup,
        "USR1" => StopSignal::User1,
        "USR2" => StopSignal::User2,
        other => return Err(ArgError::new(ArgErrorKind::Range, format!("unknown signal {other:?}"))),
    })
}

/// Seconds as milliseconds; parameters are checked to be between 0 and a day.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a day")]
fn milliseconds(seconds: f64) -> u64 {
    (seconds * 1000.0).round().clamp(0.0, 86_400_000.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoprof_plugin::core::protocol::Tool;
    use proptest::prelude::*;

    fn encoded(args: &Args) -> Result<Invocation, ArgError> {
        let mut facts = HostFacts::default();
        facts.tools.insert("tail".into(), Tool::default());
        UserCommand.encode(&args.complete(&COMMAND)?, &facts)
    }

    fn list(words: &[&str]) -> Value {
        Value::List(words.iter().map(|word| Value::from(*word)).collect())
    }

    #[test]
    fn a_command_line_goes_to_the_shell_as_one_word() {
        let args = Args { positional: vec!["dmesg -w | grep 'a b'".into()], ..Args::new() };
        let start = encoded(&args).unwrap().start.unwrap();
        assert_eq!(start.argv, ["sh", "-c", "dmesg -w | grep 'a b'"]);
        assert_eq!(start.stdout.as_deref(), Some("command.txt"));
        assert!(!start.may_end);
    }

    #[test]
    fn a_list_needs_no_shell() {
        let args = Args::new().with("argv", list(&["echo", "$HOME; x"])).with("may_end", true).with("output", "e.log");
        let invocation = encoded(&args).unwrap();
        let start = invocation.start.unwrap();
        assert_eq!(start.argv, ["echo", "$HOME; x"]);
        assert_eq!((start.stdout.as_deref(), start.may_end), (Some("e.log"), true));
        assert_eq!(invocation.outputs[0].file, "e.log");
        assert!(!invocation.restart_after_reboot);
    }

    #[test]
    fn files_are_followed_from_their_end() {
        let args = Args::new().with("follow", list(&["/var/log/syslog", "-x"]));
        let invocation = encoded(&args).unwrap();
        assert_eq!(invocation.start.unwrap().argv, ["tail", "-n", "0", "-F", "--", "/var/log/syslog", "-x"]);
        assert!(invocation.restart_after_reboot);
        let without_tail = UserCommand.encode(&args, &HostFacts::default()).unwrap_err();
        assert_eq!(without_tail.kind, ArgErrorKind::Missing);
    }

    #[test]
    fn a_polled_command_is_run_at_an_interval() {
        let invocation = encoded(&Args::new().with("command", "ss -s").with("poll", 0.5)).unwrap();
        let poll = invocation.poll.unwrap();
        assert_eq!((poll.every_ms, poll.output.as_str()), (500, "command.txt"));
        assert_eq!(poll.argv, ["sh", "-c", "ss -s"]);
        assert!(invocation.start.is_none());
    }

    #[test]
    fn its_end_is_as_the_user_says() {
        let args = Args::new().with("command", "x").with("stop_signal", "USR1").with("grace", 2.5);
        assert_eq!(encoded(&args).unwrap().stop, Stop { signal: StopSignal::User1, grace_ms: 2500 });
        assert_eq!(encoded(&Args::new().with("command", "x")).unwrap().stop, Stop::default());
        assert!(encoded(&Args::new().with("command", "x").with("stop_signal", "KILL")).is_err());
    }

    #[test]
    fn exactly_one_thing_is_run() {
        let none = Args::new();
        let both = Args::new().with("command", "x").with("argv", "y");
        let polled_follow = Args::new().with("follow", "/x").with("poll", 1i64);
        for args in [none, both, polled_follow] {
            assert_eq!(encoded(&args).unwrap_err().kind, ArgErrorKind::Conflict, "{args:?}");
        }
        for args in [Args::new().with("command", " "), Args::new().with("argv", list(&[]))] {
            assert_eq!(encoded(&args).unwrap_err().kind, ArgErrorKind::Range, "{args:?}");
        }
    }

    #[test]
    fn the_output_stays_in_the_directory() {
        for name in ["", "..", ".x", "a/b", "/etc/passwd", "a\nb", "-o"] {
            let args = Args::new().with("command", "x").with("output", name);
            assert_eq!(encoded(&args).unwrap_err().kind, ArgErrorKind::Range, "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn a_command_line_is_never_changed(text in "[^\0]*[a-z][^\0]*") {
            let start = encoded(&Args::new().with("command", text.clone())).unwrap().start.unwrap();
            prop_assert_eq!(start.argv, vec!["sh".to_owned(), "-c".to_owned(), text]);
        }
    }

    #[test]
    fn a_command_of_the_users_has_the_environment_of_the_login() {
        let environment = |args: &Args| {
            let args = args.complete(&COMMAND).unwrap();
            let mut facts = HostFacts::default();
            facts.tools.insert("tail".into(), Tool::default());
            UserCommand.encode(&args, &facts).unwrap().environment
        };
        let args = || Args::new().with("command", "env");
        assert_eq!(environment(&args()), Environment::Login);
        assert_eq!(environment(&args().with("poll", 1.0)), Environment::Login);
        assert_eq!(environment(&args().with("environment", "clean")), Environment::Clean);
        assert!(args().with("environment", "mine").complete(&COMMAND).is_err());
    }
}

#[cfg(test)]
mod kept {
    use autoprof_plugin::{conformance, core::Registry};

    #[test]
    fn encoders_and_converters_keep_what_they_have_to() {
        let mut registry = Registry::default();
        super::register(&mut registry).unwrap();
        for (name, encoder) in registry.encoders() {
            assert_eq!(conformance::failures(&conformance::check(&**encoder)), Vec::<String>::new(), "{name}");
        }
    }
}
