//! The duration of check_status for one run and for the latest runs, by the number of runs. Calls to this server and to the bare server
//! alternate.

use serde_json::{Value, json};

use crate::figures::{Figure, ms};
use crate::testbed::Testbed;

const ONE: usize = 1_000;
const LATEST: usize = 300;

pub(crate) fn among_ended(testbed: &Testbed<'_>, on_disk: usize) -> anyhow::Result<()> {
    let one = Figure::new("check_status of an ended run", "ms").at("on_disk", on_disk).target(0.2);
    measure_alternately(testbed, &json!({"run_id": testbed.an_ended_run()}), ONE, one)?;
    let latest = Figure::new("check_status of the latest 20", "ms").at("on_disk", on_disk).target(1.5);
    measure_alternately(testbed, &json!({}), LATEST, latest)
}

pub(crate) fn among_live(testbed: &Testbed<'_>, live: usize) -> anyhow::Result<()> {
    let one = Figure::new("check_status of a live run", "ms").at("live", live).target(0.2);
    measure_alternately(testbed, &json!({"run_id": testbed.a_live_run()}), ONE, one)?;
    let latest = Figure::new("check_status of the latest 20", "ms").at("live", live).target(1.5);
    measure_alternately(testbed, &json!({}), LATEST, latest)
}

fn measure_alternately(testbed: &Testbed<'_>, arguments: &Value, rounds: usize, figure: Figure) -> anyhow::Result<()> {
    let (mut server, mut bare) = (testbed.server()?, testbed.bare()?);
    let (mut times, mut bare_times) = (Vec::new(), Vec::new());
    for round in 0..rounds + 20 {
        let took = server.call("check_status", arguments)?.1;
        let bare_took = bare.call("constant", &json!({}))?.1;
        // The first calls of a process include its warm-up.
        if round >= 20 {
            times.push(ms(took));
            bare_times.push(ms(bare_took));
        }
    }
    server.end()?;
    bare.end()?;
    figure.print(&times, &bare_times)
}
