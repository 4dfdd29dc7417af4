//! CPU time of a gather of the usual node inputs on this machine: `cargo bench -p heliograph-plugins --bench node`.

use std::sync::Arc;
use std::time::Duration;

use heliograph_core::accumulator::Accumulator;
use heliograph_core::clock::Clock;
use heliograph_core::config::Section;
use heliograph_core::host::HostPaths;
use heliograph_core::model::Batch;
use heliograph_core::plugin::{BuildContext, Input};
use heliograph_core::stage::InputRules;
use heliograph_core::stats::Stats;
use heliograph_plugins::inputs;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;

/// The inputs of the budget, and then the others that read the same files.
const INPUTS: [&str; 9] = ["cpu", "disk", "diskio", "mem", "net", "system", "swap", "processes", "kernel"];

/// How many of them count for the budget of 0.5 ms.
const BUDGETED: usize = 6;

const GATHERS: u32 = 1000;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made");
    let mut sum = Duration::ZERO;
    for (place, name) in INPUTS.into_iter().enumerate() {
        let time = runtime.block_on(measure(name));
        println!("{name:10} {:8.1} µs of CPU a gather", time.as_secs_f64() * 1e6);
        if place < BUDGETED {
            sum += time;
        }
    }
    println!("{:10} {:8.1} µs, the first {BUDGETED} together; the budget is 500", "sum", sum.as_secs_f64() * 1e6);
}

/// User and system time of a gather, batches handed on and thrown away included.
async fn measure(name: &str) -> Duration {
    let spec = inputs::ALL.iter().find(|spec| spec.name == name).expect("the input is in the table");
    let context = BuildContext {
        name: format!("inputs.{name}").into(),
        clock: Clock::system(),
        host: HostPaths::from_environment(),
        stats: Stats::default(),
        version: "bench",
        debug: false,
    };
    let mut input = (spec.build)(Section::empty(&format!("inputs.{name}")), &context).expect("defaults are valid");
    let (sink, mut batches) = mpsc::channel(16);
    let rules = Arc::new(InputRules { plugin: context.name.clone(), ..InputRules::default() });
    let mut accumulator = Accumulator::new(rules, 1_000_000_000, context.clock.clone(), sink, Vec::new());
    gather(&mut *input, &mut accumulator, &mut batches).await;
    let start = cpu_time();
    for _ in 0..GATHERS {
        gather(&mut *input, &mut accumulator, &mut batches).await;
    }
    (cpu_time() - start) / GATHERS
}

async fn gather(input: &mut dyn Input, accumulator: &mut Accumulator, batches: &mut mpsc::Receiver<Batch>) {
    input.gather(accumulator).await.expect("this machine can be read");
    accumulator.flush().await.expect("the receiver is alive");
    while batches.try_recv().is_ok() {}
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
