//! Computes what a run has spent and decides how to react: steer at 80 % of a budget, stop at 100 %. Pure.
//! An unknown cost never counts as zero.

use std::collections::BTreeMap;

use crate::run::{AgentDigest, Allowance, Digest, Spend, Unpriced, Usd};

/// From this share of the budget on, in percent, the agents are requested to finish.
const STEER_PERCENT: u64 = 80;

/// Computes the costs of one run and compares them with its budget.
#[derive(Debug, Clone, Default)]
pub(super) struct BudgetPolicy {
    pub(super) allowance: Allowance,
    /// The model of each agent.
    pub(super) models: BTreeMap<String, String>,
    /// A rehearsal costs what its script reports, otherwise nothing.
    pub(super) is_rehearsal: bool,
}

/// The reaction to the spend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum BudgetDecision {
    /// Nothing.
    Continue,
    /// Request the agents to finish.
    Steer,
    /// Stop the run.
    Stop,
}

impl BudgetPolicy {
    /// The spend of the run itself.
    pub(super) fn own_spend(&self, digest: &Digest) -> Spend {
        let agents_usd: f64 = digest.agents.iter().filter_map(|agent| agent.cost_usd).sum();
        let reported_usd = Usd::from_f64(digest.cost_usd.unwrap_or_default().max(agents_usd)).unwrap_or_default();
        let unknown: Vec<&AgentDigest> = digest.agents.iter().filter(|agent| is_unpriced(agent)).collect();
        let estimates: Vec<Option<Usd>> = unknown.iter().map(|agent| self.estimate_usd(agent)).collect();
        let estimated: u64 = estimates.iter().flatten().map(|usd| usd.0).sum();
        let is_unattributed =
            digest.agents.is_empty() && digest.cost_usd.is_none() && digest.tokens.unwrap_or_default() > 0;
        Spend {
            usd: Usd(reported_usd.0.saturating_add(estimated)),
            tokens: digest.tokens.unwrap_or_default(),
            is_unpriced: !self.is_rehearsal && (is_unattributed || estimates.iter().any(Option::is_none)),
        }
    }

    fn estimate_usd(&self, agent: &AgentDigest) -> Option<Usd> {
        let price = self.allowance.prices.get(self.models.get(&agent.id)?)?;
        let output = agent.output_tokens.unwrap_or_default();
        let input = agent.tokens.unwrap_or_default().saturating_sub(output);
        (self.allowance.unpriced == Unpriced::Estimate).then(|| price.cost(input, output))
    }

    /// The reaction to this spend.
    pub(super) fn decide(&self, spent: Spend) -> BudgetDecision {
        let used = self.allowance.cap.percent_used(spent);
        let is_denied = spent.is_unpriced && self.allowance.unpriced == Unpriced::Deny;
        match used {
            _ if is_denied => BudgetDecision::Stop,
            100.. => BudgetDecision::Stop,
            STEER_PERCENT.. => BudgetDecision::Steer,
            _ => BudgetDecision::Continue,
        }
    }
}

/// An agent that has answered has used its model, whether or not MassGen reports its tokens.
fn is_unpriced(agent: &AgentDigest) -> bool {
    agent.cost_usd.is_none() && (agent.tokens.unwrap_or_default() > 0 || agent.answers > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::{Cap, ModelPrice};

    fn agent(id: &str, cost_usd: Option<f64>, input: u64, output: u64) -> AgentDigest {
        let (tokens, output_tokens) = (Some(input + output), Some(output));
        AgentDigest { id: id.to_owned(), cost_usd, tokens, output_tokens, ..AgentDigest::default() }
    }

    fn digest(agents: Vec<AgentDigest>) -> Digest {
        let cost: f64 = agents.iter().filter_map(|agent| agent.cost_usd).sum();
        let tokens = agents.iter().filter_map(|agent| agent.tokens).sum();
        Digest { cost_usd: (cost > 0.0).then_some(cost), tokens: Some(tokens), agents, ..Digest::default() }
    }

    fn policy(unpriced: Unpriced) -> BudgetPolicy {
        let price = ModelPrice { input: Usd(1_000_000), output: Usd(10_000_000) };
        let allowance = Allowance {
            cap: Cap { usd: Some(Usd(1_000_000)), tokens: Some(10_000) },
            unpriced,
            prices: [("m".to_owned(), price)].into(),
            ..Allowance::default()
        };
        BudgetPolicy { allowance, models: [("b".to_owned(), "m".to_owned())].into(), is_rehearsal: false }
    }

    #[test]
    fn the_cost_of_a_model_without_a_price_is_unknown_or_estimated_and_never_zero() {
        let both = digest(vec![agent("a", Some(0.5), 10, 10), agent("b", None, 1_000, 100)]);
        let warn_spend = policy(Unpriced::Warn).own_spend(&both);
        assert_eq!(warn_spend, Spend { usd: Usd(500_000), tokens: 1_120, is_unpriced: true });
        let estimated_spend = policy(Unpriced::Estimate).own_spend(&both);
        assert_eq!(estimated_spend, Spend { usd: Usd(502_000), tokens: 1_120, is_unpriced: false });
        let unknown_model = digest(vec![agent("c", None, 1, 1)]);
        assert!(policy(Unpriced::Estimate).own_spend(&unknown_model).is_unpriced, "the table does not have its model");
        assert!(!BudgetPolicy { is_rehearsal: true, ..policy(Unpriced::Warn) }.own_spend(&both).is_unpriced);
    }

    #[test]
    fn a_run_is_steered_at_80_percent_of_its_budget_and_stopped_at_100() {
        let policy = policy(Unpriced::Warn);
        let spent = |usd, tokens| Spend { usd: Usd(usd), tokens, is_unpriced: true };
        assert_eq!(policy.decide(spent(799_999, 0)), BudgetDecision::Continue);
        assert_eq!(policy.decide(spent(800_000, 0)), BudgetDecision::Steer);
        assert_eq!(policy.decide(spent(1_000_000, 0)), BudgetDecision::Stop);
        assert_eq!(policy.decide(spent(0, 10_000)), BudgetDecision::Stop);
        let deny_policy =
            BudgetPolicy { allowance: Allowance { unpriced: Unpriced::Deny, ..policy.allowance.clone() }, ..policy };
        assert_eq!(deny_policy.decide(spent(0, 1)), BudgetDecision::Stop);
    }

    /// Cost and tokens of a status that names no agent → whether its tokens have no price.
    #[test]
    fn tokens_of_a_status_without_agents_have_no_price_unless_it_has_a_cost() {
        for (cost_usd, tokens, expected) in [
            (None, Some(1), true),
            (None, Some(0), false),
            (None, None, false),
            (Some(0.5), Some(1), false),
            (Some(0.5), None, false),
        ] {
            let spend = policy(Unpriced::Warn).own_spend(&Digest { cost_usd, tokens, ..Digest::default() });
            assert_eq!(spend.is_unpriced, expected, "{cost_usd:?}, {tokens:?}");
        }
    }

    /// Cost, tokens and answers of the only agent → whether its tokens have no price.
    #[test]
    fn an_agent_that_used_its_model_without_a_cost_has_no_price() {
        for (cost_usd, tokens, answers, expected) in [
            (None, Some(1), 0, true),
            (None, None, 1, true),
            (None, Some(0), 1, true),
            (None, Some(0), 0, false),
            (None, None, 0, false),
            (Some(0.0), Some(1), 1, false),
        ] {
            let agent = AgentDigest { cost_usd, tokens, answers, ..AgentDigest::default() };
            let digest = Digest { tokens, agents: vec![agent], ..Digest::default() };
            let spend = policy(Unpriced::Warn).own_spend(&digest);
            assert_eq!(spend.is_unpriced, expected, "{cost_usd:?}, {tokens:?}, {answers} answers");
        }
    }
}
