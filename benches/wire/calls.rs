//! The duration of check_status for one run and for the latest runs, by the number of runs. Calls to this server and to the bare server
//! alternate.

use serde_json::{Value, json};

use crate::field::Field;
use crate::figures::{Figure, ms};

const ONE: usize = 1_000;
const LATEST: usize = 300;

pub(crate) fn among_ended(field: &Field<'_>, on_disk: usize) -> anyhow::Result<()> {
    let one = Figure::new("check_status of an ended run", "ms").at("on_disk", on_disk).wanted(0.2);
    in_turns(field, &json!({"run_id": field.an_ended_run()}), ONE, one)?;
    let latest = Figure::new("check_status of the latest 20", "ms").at("on_disk", on_disk).wanted(1.5);
    in_turns(field, &json!({}), LATEST, latest)
}

pub(crate) fn among_live(field: &Field<'_>, live: usize) -> anyhow::Result<()> {
    let one = Figure::new("check_status of a live run", "ms").at("live", live).wanted(0.2);
    in_turns(field, &json!({"run_id": field.a_live_run()}), ONE, one)?;
    let latest = Figure::new("check_status of the latest 20", "ms").at("live", live).wanted(1.5);
    in_turns(field, &json!({}), LATEST, latest)
}

fn in_turns(field: &Field<'_>, arguments: &Value, times: usize, figure: Figure) -> anyhow::Result<()> {
    let (mut server, mut bare) = (field.server()?, field.bare()?);
    let (mut own, mut least) = (Vec::new(), Vec::new());
    for round in 0..times + 20 {
        let took = server.call("check_status", arguments)?.1;
        let bare_took = bare.call("constant", &json!({}))?.1;
        // The first calls of a process include its warm-up.
        if round >= 20 {
            own.push(ms(took));
            least.push(ms(bare_took));
        }
    }
    server.end()?;
    bare.end()?;
    figure.tell(&own, &least)
}
