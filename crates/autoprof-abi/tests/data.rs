//! The data that crosses, as the first release wrote it.
//!
//! `data-1.json` is never changed, but for additions.
use autoprof_core::{
    Args, ClientHandle, Host, ProfilerInfo, RawResults, Signal, Table,
    protocol::{Event, HostFacts, Invocation},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Reads a value as today's sources do and writes it again.
fn through<T: Serialize + DeserializeOwned>(value: &Value) -> Value {
    let read: T = serde_json::from_value(value.clone()).unwrap_or_else(|e| panic!("{value} cannot be read: {e}"));
    serde_json::to_value(read).expect("a value that was read")
}

/// Whether everything of `was` is in `is`, with the same content: an older reader finds what it looks for.
fn is_kept(was: &Value, is: &Value) -> bool {
    match (was, is) {
        (Value::Object(was), Value::Object(is)) => {
            was.iter().all(|(name, was)| is.get(name).is_some_and(|is| is_kept(was, is)))
        }
        (Value::Array(was), Value::Array(is)) => {
            was.len() == is.len() && was.iter().zip(is).all(|(was, is)| is_kept(was, is))
        }
        _ => was == is,
    }
}

#[test]
fn what_the_first_release_wrote_is_read_and_written_so_that_it_understands_it() {
    let released: Value = serde_json::from_str(include_str!("data-1.json")).unwrap();
    let released = released.as_object().unwrap();
    for (kind, values) in released {
        let through = match kind.as_str() {
            "args" => through::<Args>,
            "client" => through::<ClientHandle>,
            "event" => through::<Event>,
            "facts" => through::<HostFacts>,
            "host" => through::<Host>,
            "info" => through::<ProfilerInfo>,
            "invocation" => through::<Invocation>,
            "raw" => through::<RawResults>,
            "signal" => through::<Signal>,
            "table" => through::<Table>,
            other => panic!("there is no {other}"),
        };
        for was in values.as_array().unwrap() {
            let is = through(was);
            assert!(is_kept(was, &is), "{kind}: an older autoprof or plugin wrote {was}, and is given {is}");
            // A reader passes over what it does not know, but not in what is to be run: with a part left out it would
            // be another measurement.
            let mut newer = was.clone();
            if let Some(fields) =
                newer.as_object_mut().filter(|_| !["args", "invocation", "signal"].contains(&kind.as_str()))
            {
                fields.insert("of_a_later_release".to_owned(), Value::Bool(true));
            }
            assert!(is_kept(was, &through(&newer)), "{kind}");
        }
    }
    assert_eq!(released.len(), 10);
}
