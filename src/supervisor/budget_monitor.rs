//! Follows a run's spend and reports when it passes a threshold of its budget. `spend_tracker` counts, `budget` decides; this stores the
//! strictest decision so far. It stops nothing and sends no message.

use std::path::Path;

use super::budget::{BudgetDecision, BudgetPolicy};
use super::run_context::RunContext;
use super::spend_tracker::SpendTracker;
use crate::run::{Cap, Digest, RunId, Spend};

pub(super) struct BudgetMonitor {
    spend: SpendTracker,
    /// The decision for the spend so far.
    decision: BudgetDecision,
}

/// The spend after an update.
pub(super) struct SpendUpdate {
    /// Of the run itself.
    pub(super) spent: Spend,
    /// Of all runs below it.
    pub(super) by_descendants: Spend,
    /// The decision, if this update passed its threshold.
    pub(super) passed: Option<BudgetDecision>,
}

impl BudgetMonitor {
    pub(super) fn new(policy: BudgetPolicy) -> BudgetMonitor {
        BudgetMonitor { spend: SpendTracker::new(policy), decision: BudgetDecision::Continue }
    }

    /// Counts the spend of this run, of other MassGen processes in its folder, and of all runs below it.
    pub(super) fn update(&mut self, run: &RunContext, digest: Option<&Digest>, log_dir: Option<&Path>) -> SpendUpdate {
        self.spend.update_own(digest);
        if let Some(own) = log_dir {
            self.spend.update_other_massgens(&run.files, own);
        }
        self.spend.update_descendants(&run.state, &run.folder);
        let decision = self.spend.decide();
        let passed = (decision > self.decision).then_some(decision);
        self.decision = self.decision.max(decision);
        SpendUpdate { spent: self.spend.spent(), by_descendants: self.spend.spent_by_descendants(), passed }
    }

    /// Whether the run must be stopped for its budget.
    pub(super) fn is_exhausted(&self) -> bool {
        match self.decision {
            BudgetDecision::Continue | BudgetDecision::Steer => false,
            BudgetDecision::Stop => true,
        }
    }

    /// The runs below that may still spend.
    pub(super) fn active_descendants(&mut self, run: &RunContext) -> impl Iterator<Item = &RunId> {
        self.spend.update_descendants(&run.state, &run.folder);
        self.spend.active_descendants()
    }
}

/// The message that requests the agents to finish.
pub(super) fn finish_message(cap: Cap, spent: Spend) -> String {
    let used = cap.percent_used(spent);
    format!(
        "{used} % of this run's budget is spent, and at 100 % it is stopped. Finish now: give or present the best answer \
         that you have, or vote. Start no new research and no new runs."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{RunFolder, StateFolder};
    use crate::run::{Allowance, Usd};
    use crate::secrets::Secrets;

    #[test]
    fn each_threshold_is_reported_once() {
        let root = tempfile::tempdir().expect("temp");
        let folder = root.path().join("runs/mg-00000000");
        std::fs::create_dir_all(&folder).expect("created");
        let folder = RunFolder::from_path(&folder).expect("a run's folder");
        let state = StateFolder::containing(&folder).expect("a state folder");
        let run = RunContext::open(folder, state, Secrets::default()).expect("opened");
        let cap = Cap { usd: Some(Usd(1_000_000)), tokens: None };
        let allowance = Allowance { cap, ..Allowance::default() };
        let mut monitor = BudgetMonitor::new(BudgetPolicy { allowance, ..BudgetPolicy::default() });
        let mut passed = |usd: f64| {
            let digest = Digest { cost_usd: Some(usd), ..Digest::default() };
            (monitor.update(&run, Some(&digest), None).passed, monitor.is_exhausted())
        };
        assert_eq!(passed(0.5), (None, false));
        assert_eq!(passed(0.8), (Some(BudgetDecision::Steer), false));
        assert_eq!(passed(0.9), (None, false));
        assert_eq!(passed(1.0), (Some(BudgetDecision::Stop), true));
        assert_eq!(passed(0.1), (None, true), "a spend never decreases");
    }
}
