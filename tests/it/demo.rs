//! The demonstration, with its broker, its devices and the agent in this process.

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use heliograph::demo::{Demo, Frame, Options};
use heliograph::logging;
use heliograph_core::clock::Clock;

/// More than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(90);

#[test]
fn devices_arrive_as_graphite_lines_and_stay_within_the_budget() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { devices: 40, rate: 200, folder: Some(folder.path().to_owned()), ..Options::default() };
    let demo = Demo::prepare(&options).expect("a broker and a configuration");
    let lines = || fs::read_to_string(&demo.files().lines).unwrap_or_default();
    let mut last = Frame::default();
    demo.run(&logging::init(Clock::system()), Duration::from_millis(100), |frame| {
        last = frame.clone();
        let is_done = frame.folded_line.is_some()
            && frame.folded > 0.0
            && frame.devices.unreadable > 0
            && !frame.log.is_empty()
            && lines().contains(".dev-00039.temperature ");
        if is_done || frame.uptime > PATIENCE { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .expect("an agent that ends well");

    assert!(last.uptime < PATIENCE, "not all has happened: {last:#?}");
    let lines = lines();
    let has = |start: &str| lines.lines().any(|line| line.starts_with(start));
    assert!(has("climate.berlin.hall-1.dev-00000.temperature "));
    assert!(has("climate.berlin.hall-1.new-"), "the first new ids have room");
    assert!(has("climate.berlin.hall-1.other.temperature_count "));
    let climate = last.budgets.iter().find(|budget| budget.measurement == "climate").expect("a budget");
    assert!((41..=climate.limit).contains(&climate.series), "{climate:?}");
    let file = last.outputs.iter().find(|output| output.name == "file").expect("an output");
    assert!(file.metrics > 0.0 && file.dropped == 0 && file.errors == 0, "{file:?}");
    assert!(last.inputs.len() == 8 && last.devices.received > 0.0, "{last:#?}");
}
