//! `[throttle]`: what is done before buffers run out.

use super::source::Section;

/// What is done before buffers run out; what is left out keeps the stack's default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Throttle {
    /// Keys that were given and their percentages, for the dataplane's command line.
    pub given: Vec<(&'static str, u64)>,
}

/// The three ways, in the order in which they come when free memory gets less, and the percentage
/// each has when nothing is said.
const STEPS: [(&str, u64); 3] = [("shrink_below", 50), ("withhold_below", 20), ("hide_below", 10)];

pub(super) fn read(throttle: Section<'_, '_>) -> Throttle {
    let mut given = Vec::new();
    // The step before, as far as it is not turned off.
    let mut before: Option<(&str, u64)> = None;
    for (key, default) in STEPS {
        let percent = throttle.integer(key, 0..=100);
        given.extend(percent.map(|percent| (key, percent)));
        let percent = percent.unwrap_or(default);
        if percent == 0 {
            continue;
        }
        if let Some((earlier, first)) = before.filter(|(_, first)| percent > *first) {
            // The default of a key left out can be above a key that is set.
            let told = if throttle.has(key) { key } else { earlier };
            let what = format!(
                "`{key}` in [throttle] is {percent}, above `{earlier}` ({first}), which comes first \
                 when memory gets scarce; lower it or raise the other"
            );
            throttle.fault(told, what);
        }
        before = Some((key, percent));
    }
    given.extend(throttle.integer("pool_share", 1..=100).map(|percent| ("pool_share", percent)));
    throttle.finish();
    Throttle { given }
}
