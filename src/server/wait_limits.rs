//! How long a wait may be: the operator's limit, and the client's observed timeout. A client with a fixed call timeout
//! cancels a call at that time, so the first cancelled call shows how long later waits may take. The data is kept only
//! for the session.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::RequestId;
use tokio::time::Instant;

/// A faster cancellation is no timeout: a person changed their mind, or the client shut down.
const MIN_CANCEL_TIME: Duration = Duration::from_secs(1);
/// The share of the client's timeout that a wait may use: the answer has to arrive before the timeout.
const TIMEOUT_SHARE: f64 = 0.8;

/// The observed timeout of one client.
#[derive(Debug, Clone, Default)]
pub(super) struct WaitLimits(Arc<Mutex<OpenCalls>>);

#[derive(Debug, Default)]
struct OpenCalls {
    /// The calls without an answer yet, with their start times.
    open: HashMap<RequestId, Instant>,
    learned: LearnedTimeout,
}

/// The observations about a client's timeout.
#[derive(Debug, Clone, Copy, Default)]
struct LearnedTimeout {
    /// The longest call that was answered without being cancelled.
    longest_answered: Duration,
    /// The shortest call that was cancelled.
    shortest_cancelled: Option<Duration>,
}

/// An open call; it ends when this is dropped.
pub(super) struct OpenCall {
    wait_limits: WaitLimits,
    id: RequestId,
}

/// The longest allowed wait, and what to report to the caller if that is less than requested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AllowedWait {
    pub(super) max: Duration,
    pub(super) note: Option<String>,
}

impl WaitLimits {
    /// Records the start of a call.
    pub(super) fn start_call(&self, id: RequestId) -> OpenCall {
        self.lock().open.insert(id.clone(), Instant::now());
        OpenCall { wait_limits: self.clone(), id }
    }

    /// Learns from a call that the client cancels. It runs before the client's next message is read, so the next call's
    /// wait already uses the result.
    pub(super) fn record_cancelled(&self, id: &RequestId, reason: Option<&str>) {
        let mut calls = self.lock();
        if let Some(started_at) = calls.open.remove(id) {
            calls.learned.record_cancel(started_at.elapsed(), reason);
        }
    }

    /// The allowed part of a wait of `asked`; the operator allows `most`.
    pub(super) fn allowed_wait(&self, requested: Duration, max: Duration) -> AllowedWait {
        self.lock().learned.allowed_wait(requested, max)
    }

    /// A panic in another holder leaves the table consistent, because each change is a single operation.
    fn lock(&self) -> MutexGuard<'_, OpenCalls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenCall {
    /// The call is over. Unless it was cancelled, the client's timeout is longer than the call.
    fn drop(&mut self) {
        let mut calls = self.wait_limits.lock();
        if let Some(started_at) = calls.open.remove(&self.id) {
            calls.learned.record_answer(started_at.elapsed());
        }
    }
}

impl LearnedTimeout {
    /// Records a cancelled call. If the client gives a reason that names no timeout, a person or a program cancelled
    /// the call (`AbortError` is the Esc key in clients with the TypeScript SDK), so nothing is learned. Nothing is
    /// learned either if the client has waited longer for another answer.
    fn record_cancel(&mut self, after: Duration, reason: Option<&str>) {
        let reason = reason.filter(|reason| !reason.trim().is_empty());
        if after >= MIN_CANCEL_TIME && after > self.longest_answered && reason.is_none_or(is_timeout) {
            self.shortest_cancelled = Some(self.shortest_cancelled.map_or(after, |shortest| shortest.min(after)));
        }
    }

    /// Records an answered call and its duration. If the call took longer than the learned timeout, that timeout is
    /// discarded.
    fn record_answer(&mut self, after: Duration) {
        self.longest_answered = self.longest_answered.max(after);
        self.shortest_cancelled = self.shortest_cancelled.filter(|cancelled| self.longest_answered < *cancelled);
    }

    fn allowed_wait(&self, requested: Duration, max: Duration) -> AllowedWait {
        match self.shortest_cancelled.map(|after| (after, after.mul_f64(TIMEOUT_SHARE))) {
            Some((after, allowed)) if requested > allowed && allowed < max => {
                let (after, cut_s) = (after.as_secs_f64().round(), allowed.as_secs_f64().round());
                let note = format!(
                    "this client gives up after {after} s: waits are cut to {cut_s} s; raise its timeout for tool calls to \
                     wait longer"
                );
                AllowedWait { max: allowed, note: Some(note) }
            }
            Some(_) | None if requested > max => {
                let note = format!("waits are cut to {} s here (max_wait_s)", max.as_secs());
                AllowedWait { max, note: Some(note) }
            }
            Some(_) | None => AllowedWait { max: requested, note: None },
        }
    }
}

/// Whether a reason names a timeout: `timed out after 5s` (Python SDK), `McpError: MCP error -32001: Request timed out`
/// (TypeScript SDK).
fn is_timeout(reason: &str) -> bool {
    let reason = reason.to_lowercase();
    ["timed out", "timeout", "time out", "deadline"].iter().any(|phrase| reason.contains(phrase))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(50);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_call_that_the_client_cancelled_shortens_the_next_waits() {
        let mut learned = LearnedTimeout::default();
        assert_eq!(learned.allowed_wait(seconds(45), MOST), AllowedWait { max: seconds(45), note: None });
        learned.record_cancel(seconds(5), Some("timed out after 5s"));
        let allowed = learned.allowed_wait(seconds(45), MOST);
        assert_eq!(allowed.max, seconds(4));
        let note = allowed.note.expect("said");
        assert!(note.starts_with("this client gives up after 5 s: waits are cut to 4 s; raise its timeout"), "{note}");
        assert_eq!(
            learned.allowed_wait(seconds(3), MOST),
            AllowedWait { max: seconds(3), note: None },
            "short waits are as they were"
        );
    }

    #[test]
    fn other_cancellations_do_not_shorten_waits() {
        let mut learned = LearnedTimeout::default();
        learned.record_cancel(Duration::from_millis(900), None);
        learned.record_cancel(seconds(20), Some("AbortError: This operation was aborted"));
        assert_eq!(learned.shortest_cancelled, None);
        learned.record_cancel(seconds(60), Some("McpError: MCP error -32001: Request timed out"));
        learned.record_cancel(seconds(10), Some(""));
        assert_eq!(learned.shortest_cancelled, Some(seconds(10)), "no reason is given by an empty one");
    }

    #[test]
    fn a_longer_answered_call_lifts_the_limit() {
        let mut learned = LearnedTimeout::default();
        learned.record_answer(seconds(2));
        learned.record_cancel(Duration::from_millis(1_300), None);
        assert_eq!(learned.shortest_cancelled, None);
        learned.record_cancel(seconds(4), Some("Request timed out"));
        assert_eq!(
            learned.shortest_cancelled,
            Some(seconds(4)),
            "an early cancel does not keep a real timeout from being learned"
        );
        learned.record_answer(seconds(3));
        learned.record_cancel(Duration::from_millis(2_500), None);
        assert_eq!(learned.shortest_cancelled, Some(seconds(4)), "nor does it take back what was learned");
        learned.record_answer(seconds(6));
        assert_eq!(learned.shortest_cancelled, None);
        learned.record_cancel(seconds(8), None);
        assert_eq!(learned.shortest_cancelled, Some(seconds(8)));
    }

    #[test]
    fn a_call_counts_once_and_only_while_it_is_open() {
        let (limits, id) = (WaitLimits::default(), RequestId::Number(1));
        let open = limits.start_call(id.clone());
        limits.record_cancelled(&id, None);
        assert!(limits.lock().open.is_empty(), "its end is no answer");
        drop(open);
        assert_eq!(limits.lock().learned.longest_answered, Duration::ZERO);
        drop(limits.start_call(id.clone()));
        assert!(limits.lock().learned.longest_answered > Duration::ZERO);
        limits.record_cancelled(&id, None);
        assert_eq!(limits.lock().learned.shortest_cancelled, None);
    }

    #[test]
    fn a_wait_beyond_the_operators_maximum_is_cut() {
        let mut learned = LearnedTimeout::default();
        let allowed = learned.allowed_wait(seconds(300), MOST);
        assert_eq!((allowed.max, allowed.note.expect("said").contains("max_wait_s")), (MOST, true));
        learned.record_cancel(seconds(110), None);
        assert_eq!(learned.allowed_wait(seconds(300), MOST).max, MOST, "it has the patience for all that is allowed");
    }
}
