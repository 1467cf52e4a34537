//! Detects agents that answer repeatedly and never vote. MassGen does not limit this by default, so such a run continues until
//! its timeout or its budget ends it. Pure.

use super::{Digest, Problem, Retry, Step};

/// A run counts as not converging from this number of answers of one agent.
const MIN_NON_CONVERGING_ANSWERS: u32 = 10;
/// The phase in which MassGen presents an answer: agents give no further answers in it.
const PRESENTATION_PHASE: &str = "presentation";

/// The overrides that limit the answers.
const LIMITING_OVERRIDES: &str = "{\"orchestrator\": {\"max_new_answers_per_agent\": 3}}";

impl Digest {
    /// The problem of a run in which an agent has answered `MIN_NON_CONVERGING_ANSWERS` times and no answer is being presented.
    pub fn convergence_problem(&self) -> Option<Problem> {
        let is_presenting = self.phase.as_deref() == Some(PRESENTATION_PHASE);
        let top_agent = self.agents.iter().max_by_key(|agent| agent.answers)?;
        (top_agent.answers >= MIN_NON_CONVERGING_ANSWERS && !is_presenting).then(|| {
            let message = format!("{} has answered {} times and no answer wins", top_agent.id, top_agent.answers);
            let next = Step::StopAndLimitAnswers.with(LIMITING_OVERRIDES);
            Problem { retry: Some(Retry::No), ..Problem::new("not_converging", &message, next) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::AgentDigest;

    #[test]
    fn an_agent_that_answers_again_and_again_is_a_problem_until_an_answer_is_presented() {
        let digest = |answers, phase: &str| {
            let agents = [3, answers].map(|answers| AgentDigest {
                id: format!("a{answers}"),
                answers,
                ..AgentDigest::default()
            });
            Digest { agents: agents.into(), phase: Some(phase.to_owned()), ..Digest::default() }
        };
        let problem = digest(334, "enforcement").convergence_problem().expect("a problem");
        assert_eq!(problem.code, "not_converging");
        assert!(problem.message.starts_with("a334 has answered 334 times"), "{problem:?}");
        assert!(problem.next.detail().contains(r#"{"orchestrator": {"max_new_answers_per_agent": 3}}"#), "{problem:?}");
        assert_eq!(digest(9, "enforcement").convergence_problem(), None);
        assert_eq!(digest(334, "presentation").convergence_problem(), None);
        assert_eq!(Digest::default().convergence_problem(), None);
    }
}
