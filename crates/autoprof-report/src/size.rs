//! Numbers of bytes, as people read them.

/// A number of bytes with a binary unit: `0 B`, `1.5 KiB`, `12 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value < 10.0 { format!("{value:.1} {}", UNITS[unit]) } else { format!("{value:.0} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_grow_with_the_number() {
        assert_eq!(
            [0, 1023, 1024, 1536, 20 << 20, 3 << 30].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "20 MiB", "3.0 GiB"]
        );
    }
}
