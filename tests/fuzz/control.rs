//! What a client is told: the control file, and the markers.
use autoprof_protocol::{ControlFile, MarkerTime};

/// What was read is written and read again as the same.
pub fn check(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(control) = serde_json::from_str::<ControlFile>(text) {
        let written = serde_json::to_string_pretty(&control).unwrap();
        assert_eq!(serde_json::from_str::<ControlFile>(&written).expect("what is written can be read"), control);
    }
    match text.parse::<MarkerTime>() {
        Ok(time) => assert_eq!(time.to_string().parse::<MarkerTime>(), Ok(time)),
        Err(e) => assert!(e.to_string().len() < 2000 && !e.to_string().contains(char::is_control)),
    }
}
