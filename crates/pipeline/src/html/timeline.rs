//! The steps of a run, drawn over time.

use maud::{Markup, html};

use super::mark;
use crate::{Overview, StepOverview, StepState, overview::duration};

/// Sizes are in the units of the chart, which is scaled to the width of the page.
const WIDTH: u64 = 1000;
const LEFT: u64 = 130;
const RIGHT: u64 = 90;
const ROW: u64 = 26;
const BAR: u64 = 14;
const TOP: u64 = 8;
const AXIS: u64 = 26;
/// What took no time that could be seen is still there.
const THINNEST: u64 = 3;

/// The chart.
pub(super) fn chart(run: &Overview<'_>) -> Markup {
    let rows = run.steps.len() as u64;
    let bottom = TOP + rows * ROW;
    let height = bottom + AXIS;
    let whole = run.duration_ms.max(1);
    let label = format!("The {rows} steps over {}", duration(run.duration_ms));
    html! {
        svg.timeline role="img" aria-label=(label) viewBox={ "0 0 " (WIDTH) " " (height) } {
            @for at in ticks(whole) {
                @let x = position(at, whole);
                line.grid x1=(x) y1=(TOP) x2=(x) y2=(bottom) {}
                text.tick x=(x) y=(bottom + 17) { (tick_text(at)) }
            }
            @for (row, step) in (0..).zip(&run.steps) {
                (bar(step, TOP + row * ROW, whole))
            }
        }
    }
}

fn bar(step: &StepOverview<'_>, top: u64, whole: u64) -> Markup {
    let (class, _) = mark(step.state);
    let text_y = top + 17;
    let bar_y = top + (ROW - BAR) / 2;
    html! {
        g {
            title { (step.id.to_string()) ": " (step.state.as_str()) }
            text.step x=(LEFT - 12) y=(text_y) { (step.id.to_string()) }
            @if let Some(began) = step.began_ms {
                @let from = position(began.min(whole), whole);
                @let to = position(began.saturating_add(step.duration_ms).min(whole), whole);
                @let width = to.saturating_sub(from).max(THINNEST);
                rect class={ "bar " (class) } x=(from) y=(bar_y) width=(width) height=(BAR) rx="3" {}
                text.time x=(from + width + 8) y=(text_y) { (duration(step.duration_ms)) }
            } @else {
                text.time.none x=(LEFT) y=(text_y) {
                    @match step.state {
                        StepState::Skipped => { "skipped" },
                        StepState::Kept => { "kept" },
                        _ => { "not reached" },
                    }
                }
            }
        }
    }
}

fn position(at: u64, whole: u64) -> u64 {
    let scale = u128::from(WIDTH - LEFT - RIGHT);
    let offset = u128::from(at) * scale / u128::from(whole);
    LEFT + u64::try_from(offset).unwrap_or(0)
}

/// The points in time that get a line, in milliseconds: at most seven, of a round size.
fn ticks(whole: u64) -> impl Iterator<Item = u64> {
    const STEPS: [u64; 18] = [
        1, 5, 10, 50, 100, 250, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 120_000, 300_000,
        600_000, 1_800_000, 3_600_000,
    ];
    let step = STEPS.into_iter().find(|step| whole / step <= 6);
    let step = step.unwrap_or_else(|| whole.div_ceil(6));
    (0..=whole / step).map(move |number| number * step)
}

fn tick_text(milliseconds: u64) -> String {
    match milliseconds {
        0 => "0".to_owned(),
        1..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => {
            let part = format!("{:03}", milliseconds % 1_000);
            let seconds = format!("{}.{part}", milliseconds / 1_000);
            format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
        }
        _ if milliseconds.is_multiple_of(60_000) => format!("{} min", milliseconds / 60_000),
        _ => duration(milliseconds),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_named_by_round_times() {
        let named = [0, 250, 1_000, 1_250, 10_000, 60_000, 90_000].map(tick_text);
        assert_eq!(named, ["0", "250 ms", "1 s", "1.25 s", "10 s", "1 min", "1 min 30 s"]);
    }

    proptest! {
        #[test]
        fn every_run_has_few_round_ticks_inside_of_the_chart(whole in 1..u64::MAX) {
            let ticks: Vec<u64> = ticks(whole).collect();
            prop_assert!((1..=8).contains(&ticks.len()), "{ticks:?}");
            let texts: std::collections::BTreeSet<String> =
                ticks.iter().copied().map(tick_text).collect();
            prop_assert_eq!(texts.len(), ticks.len(), "two ticks of the same name");
            for at in ticks {
                prop_assert!(at <= whole);
                prop_assert!((LEFT..=WIDTH - RIGHT).contains(&position(at, whole)));
            }
        }
    }
}
