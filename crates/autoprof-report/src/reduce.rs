//! Long series made short enough to draw.
//!
//! Of each stretch of time the rows with the least and the greatest value stay, so that no peak is lost; what is drawn
//! are always values that were measured. (Largest-triangle methods keep the look of a line, but may drop a peak.)

/// Rows that stay, in order, when at most `buckets` stretches of time are told apart: of each stretch the least and
/// the greatest of `values`.
#[must_use]
pub fn rows(times: &[f64], values: &[f64], buckets: usize) -> Vec<usize> {
    let count = times.len().min(values.len());
    if count <= buckets * 2 {
        return (0..count).collect();
    }
    let (first, last) = (times[0], times[count - 1]);
    let span = (last - first).max(f64::MIN_POSITIVE);
    let mut kept = Vec::with_capacity(buckets * 2);
    let mut bucket: Option<(usize, usize, usize)> = None;
    for at in 0..count {
        let value = values[at];
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a place below the number of buckets"
        )]
        let number = (((times[at] - first) / span * buckets as f64) as usize).min(buckets - 1);
        match &mut bucket {
            Some((n, least, most)) if *n == number => {
                if values[*least].is_nan() || value < values[*least] {
                    *least = at;
                }
                if values[*most].is_nan() || value > values[*most] {
                    *most = at;
                }
            }
            full => {
                keep(&mut kept, full.replace((number, at, at)));
            }
        }
    }
    keep(&mut kept, bucket);
    kept
}

fn keep(kept: &mut Vec<usize>, bucket: Option<(usize, usize, usize)>) {
    let Some((_, least, most)) = bucket else { return };
    kept.push(least.min(most));
    if least != most {
        kept.push(least.max(most));
    }
}

/// From how many of the usual steps on the time between two rows is a gap where each row stands for its interval.
pub const MAX_STEP: f64 = 1.6;

/// The longest time between two rows that is not a gap: a line is not drawn across more.
#[must_use]
pub fn longest_step(times: &[f64]) -> f64 {
    // A late sample or two are no gap.
    usual_step(times) * 3.5
}

/// The time that is usually between two rows; infinite where there are no two.
#[must_use]
pub fn usual_step(times: &[f64]) -> f64 {
    let mut steps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    if steps.is_empty() {
        return f64::INFINITY;
    }
    let middle = steps.len() / 2;
    let (_, median, _) = steps.select_nth_unstable_by(middle, f64::total_cmp);
    *median
}

/// The mean of each of `buckets` equal stretches from `begin` to `end`; NaN where there is no value.
///
/// A row stands for the time since the row before, so that rows that come a little late leave no hole.
#[must_use]
pub fn means(times: &[f64], values: &[f64], (begin, end): (f64, f64), buckets: usize) -> Vec<f64> {
    let mut sums = vec![(0.0, 0.0); buckets];
    #[expect(clippy::cast_precision_loss, reason = "a number of buckets")]
    let width = (end - begin).max(f64::MIN_POSITIVE) / buckets as f64;
    let usual = usual_step(times);
    let longest = if usual.is_finite() { usual * MAX_STEP } else { width };
    let mut before = f64::NEG_INFINITY;
    for (time, value) in times.iter().zip(values) {
        let covered = if time - before <= longest { before } else { time - usual.min(width) };
        before = *time;
        if value.is_nan() {
            continue;
        }
        // At the end of its interval at least, also where two rows have one time.
        let from = covered.min(time - width * 1e-6);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; negative ends at 0")]
        let place = |place: f64| (place.max(0.0) as usize).min(buckets.saturating_sub(1));
        let last = place(((time - begin) / width).ceil() - 1.0);
        let first = place(((from - begin) / width).floor()).min(last);
        for (at, sum) in sums.iter_mut().enumerate().take(last + 1).skip(first) {
            #[expect(clippy::cast_precision_loss, reason = "a number of buckets")]
            let start = begin + at as f64 * width;
            // What lies outside of the span counts for its first or last stretch, as little as it may be.
            let share = (time.min(start + width) - from.max(start)).max(width * 1e-6);
            sum.0 += value * share;
            sum.1 += share;
        }
    }
    sums.into_iter().map(|(sum, weight)| if weight > 0.0 { sum / weight } else { f64::NAN }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_extremes_of_every_series_stay(values in prop::collection::vec(-1e6..1e6f64, 1..3000), buckets in 1usize..50) {
            let times: Vec<f64> = (0..values.len()).map(|n| n as f64).collect();
            let kept = rows(&times, &values, buckets);
            prop_assert!(kept.len() <= buckets * 2);
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            let extreme = |fold: fn(f64, f64) -> f64, of: &mut dyn Iterator<Item = f64>| of.reduce(fold);
            for fold in [f64::min as fn(f64, f64) -> f64, f64::max] {
                let all = extreme(fold, &mut values.iter().copied());
                prop_assert_eq!(extreme(fold, &mut kept.iter().map(|at| values[*at])), all);
            }
        }
    }

    #[test]
    fn stretches_without_values_are_told() {
        let means = means(&[1.0, 2.0, 3.0, 5.0], &[10.0, 20.0, 30.0, 50.0], (0.0, 5.0), 5);
        assert_eq!((&means[..3], means[4]), ([10.0, 20.0, 30.0].as_slice(), 50.0));
        assert!(means[3].is_nan());
        assert_eq!(longest_step(&[0.0, 1.0, 2.0, 9.0]), 3.5);
    }

    #[test]
    fn rows_that_are_late_leave_no_hole() {
        let times = [1.02, 1.98, 3.04, 4.01, 4.97, 6.06];
        let means = means(&times, &[7.0; 6], (0.0, 6.06), 6);
        assert!(means.iter().all(|mean| (mean - 7.0).abs() < 1e-9), "{means:?}");
    }
}
