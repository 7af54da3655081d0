//! Samples as numbers.

use serde::Serialize;

use super::sample::Sample;
use crate::args::Global;
use crate::output::{self, Format};

/// What `perf --json` prints of samples; a contract. Times are in milliseconds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Report {
    /// What was started.
    what: String,
    /// Between which moments the clock ran.
    clock: &'static str,
    samples: usize,
    total: Spread,
    phases: Vec<Phase>,
    /// The share of the total that the phases account for.
    accounted: f64,
}

/// A phase, by the mark that it ends with.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Phase {
    name: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// How samples are spread, in milliseconds.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(crate) struct Spread {
    min: f64,
    p50: f64,
    p95: f64,
    max: f64,
}

impl Report {
    pub(super) fn new(what: &str, clock: &'static str, samples: &[Sample]) -> Self {
        let names = samples[0].phases.iter().map(|(name, _)| *name);
        let phases: Vec<Phase> = names
            .enumerate()
            .map(|(index, name)| {
                let times = samples.iter().map(|sample| sample.phases[index].1).collect();
                Phase { name, spread: spread(times) }
            })
            .collect();
        let total = samples.iter().map(|sample| sample.total).sum::<u64>();
        let accounted = samples.iter().flat_map(|sample| &sample.phases).map(|(_, time)| time).sum::<u64>();
        #[expect(clippy::cast_precision_loss, reason = "a share")]
        let accounted = accounted as f64 / total.max(1) as f64;
        let total = spread(samples.iter().map(|sample| sample.total).collect());
        Self { what: what.to_owned(), clock, samples: samples.len(), total, phases, accounted }
    }

    pub(super) fn print(&self, global: &Global) {
        if global.format() == Format::Json {
            return output::json(self);
        }
        output::data(&format!("started  {}", self.what));
        output::data(&format!("clock    {}; {} samples, in milliseconds", self.clock, self.samples));
        output::data("");
        let mut rows: Vec<[String; 5]> =
            self.phases.iter().map(|phase| row(&format!("up to `{}`", phase.name), &phase.spread)).collect();
        rows.push(row("in all", &self.total));
        output::table(["PHASE", "P50", "P95", "MIN", "MAX"], &rows);
        output::data(&format!("\nthe phases are {:.1} % of the whole", self.accounted * 100.0));
    }
}

fn row(name: &str, spread: &Spread) -> [String; 5] {
    let number = |value: f64| format!("{value:.1}");
    [name.to_owned(), number(spread.p50), number(spread.p95), number(spread.min), number(spread.max)]
}

/// Percentiles by the nearest rank.
fn spread(mut times: Vec<u64>) -> Spread {
    times.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "milliseconds are shown with one digit")]
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1] as f64 / 1e6;
    Spread { min: at(0), p50: at(50), p95: at(95), max: at(100) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let spread = spread((1..=20).rev().map(|time| time * 1_000_000).collect());
        assert_eq!((spread.min, spread.p50, spread.p95, spread.max), (1.0, 10.0, 19.0, 20.0));
    }

    #[test]
    fn phases_account_for_the_whole() {
        let sample = Sample { total: 10, phases: vec![("a", 4), ("b", 6)] };
        assert!((Report::new("x", "y", &[sample]).accounted - 1.0).abs() < 1e-9);
    }
}
