//! Values as Python writes them: what is between the brackets of a call.
use autoprof_plugin::prelude::*;

/// Words that Python 2 or 3 keeps for itself: neither a module nor an argument can have them as its name.
const RESERVED: &[&str] = &[
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del",
    "elif", "else", "except", "exec", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "print", "raise", "return", "try", "while", "with", "yield",
];

/// A profiler's name and arguments as Autotest's control files have them: `'vmstat', 5, interval=2`.
///
/// # Errors
/// When the profiler or a named argument has a name that Python could not have.
pub fn call(profiler: &str, args: &Args) -> Result<String, ArgError> {
    let named = |name: &str, what: &str| {
        let message = format!("profilers: {name:?} is not {what}: letters, digits and _, and no word of Python's");
        if is_identifier(name) { Ok(()) } else { Err(ArgError::new(ArgErrorKind::Range, message)) }
    };
    named(profiler, "a profiler's name")?;
    args.named.keys().try_for_each(|key| named(key, "an argument's name"))?;
    let first = std::iter::once(literal(&Value::from(profiler)));
    let positional = args.positional.iter().map(literal);
    let keywords = args.named.iter().map(|(key, value)| format!("{key}={}", literal(value)));
    Ok(first.chain(positional).chain(keywords).collect::<Vec<_>>().join(", "))
}

fn is_identifier(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain && name.starts_with(|c: char| !c.is_ascii_digit()) && !RESERVED.contains(&name)
}

/// A value as Python 2 and 3 read it back.
pub fn literal(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(i) => i.to_string(),
        // With a fraction or an exponent, so that a float stays a float.
        Value::Float(x) => format!("{x:?}"),
        Value::Str(text) => quoted(text),
        Value::List(values) => format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entries: Vec<String> =
                map.iter().map(|(key, value)| format!("{}: {}", quoted(key), literal(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
    }
}

/// In ASCII: Python 2 refuses anything else in a file that does not say how it is encoded.
fn quoted(text: &str) -> String {
    let mut out = String::from(if text.is_ascii() { "'" } else { "u'" });
    for c in text.chars() {
        match c {
            '\'' => out.push_str("\\'"),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            ' '..='~' => out.push(c),
            '\0'..='\u{7f}' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('\'');
    out
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        process::{Command, Stdio},
    };

    use super::*;
    use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            proptest::num::f64::NORMAL.prop_map(Value::Float),
            any::<String>().prop_map(Value::Str),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                proptest::collection::btree_map(any::<String>(), inner, 0..6).prop_map(Value::Map),
            ]
        })
    }

    #[test]
    fn python_reads_back_what_was_written() {
        if Command::new("python3").arg("-V").output().is_err() {
            assert!(std::env::var_os("CI").is_none(), "python3 is not installed");
            eprintln!("SKIPPED python_reads_back_what_was_written: python3 is not installed");
            return;
        }
        let mut runner = TestRunner::deterministic();
        let values: Vec<Value> = (0..300).map(|_| value().new_tree(&mut runner).unwrap().current()).collect();
        let program = "import ast, json, sys\nfor line in sys.stdin: print(json.dumps(ast.literal_eval(line)))";
        let mut python =
            Command::new("python3").args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines: String = values.iter().map(|value| literal(value) + "\n").collect();
        let mut input = python.stdin.take().unwrap();
        let feed = std::thread::spawn(move || input.write_all(lines.as_bytes()).unwrap());
        let said = String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap();
        feed.join().unwrap();
        assert_eq!(said.lines().count(), values.len());
        for (value, line) in values.iter().zip(said.lines()) {
            let back: Value = serde_json::from_str(line).unwrap();
            assert_eq!(&back, value, "{}", literal(value));
        }
    }

    #[test]
    fn positions_and_names_keep_their_places() {
        let args = Args { positional: vec![Value::Int(5)], ..Args::new() }.with("interval", 2i64);
        assert_eq!(call("vmstat", &args).unwrap(), "'vmstat', 5, interval=2");
    }
}
