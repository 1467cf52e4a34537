//! The classes of failures as one table: which words of MassGen 0.1.97 and of the model providers' clients show it, what to do
//! next, and whether a retry helps. Pure. `docs/providers.md` has what it says of each provider, and a test holds it to that.

use crate::massgen::broken;
use crate::run::Retry;

pub(super) struct Class {
    pub(super) code: &'static str,
    pub(super) about: About,
    /// In lower case; one of them in a line decides.
    pub(super) signs: &'static [&'static str],
    pub(super) hint: &'static str,
    /// Whether the same run once more can go well; `None` where it may or may not.
    pub(super) retry: Option<Retry>,
}

/// What a failure is about, and so which lines show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum About {
    /// MassGen itself, its config or its agents; any line.
    MassGen,
    /// The credentials for a provider, before any call; any line.
    Credentials,
    /// A call to a model; only lines about such a call, since agents' tools fail with the same words.
    Call,
}

/// Each begins or contains what MassGen prints about a call to a model, in lower case.
const CALLS: &[&str] = &[
    "error code: ",
    "streaming error",
    "stream_with_tools",
    "mid-stream error",
    "api error: ",
    "compression recovery failed",
    "[gemini] rate limit",
    "retrying request to ",
];

/// Whether a line, in lower case, is about a call to a model.
pub(super) fn is_call(line: &str) -> bool {
    CALLS.iter().any(|words| line.contains(words))
}

/// In the order in which they are tried: what explains most comes first. An account without credit is asked for before rates,
/// since providers answer 429 for both; access (403) before a wrong model, since OpenAI calls both `model_not_found`.
pub(super) const CLASSES: &[Class] = &[
    Class {
        code: "program_missing",
        about: About::MassGen,
        signs: &["massgen-mcp: cannot execute"],
        hint: "ask the operator to run `massgen-mcp setup`, or to point --massgen at a working massgen",
        retry: Some(Retry::No),
    },
    Class {
        code: broken::CODE,
        about: About::MassGen,
        // The line of MassGen's own script, in a traceback of its imports.
        signs: &["from massgen.cli import", "from massgen.cli.entrypoint import"],
        hint: broken::HINT,
        retry: Some(Retry::No),
    },
    Class {
        code: "api_key_missing",
        about: About::Credentials,
        signs: &[
            "api key not found",
            "api_key client option must be set",
            "api key is required",
            "api key required",
            "missing api key",
            "no api key",
            "could not resolve authentication method",
        ],
        hint: "put the key into `env` of this server in the client's configuration or into ~/.massgen/.env, then start again",
        retry: Some(Retry::No),
    },
    Class {
        code: "not_logged_in",
        about: About::Credentials,
        signs: &["not logged in", "please run /login", "not authenticated"],
        hint: "the operator has to log in to that program once here, or to put its API key into `env` of this server",
        retry: Some(Retry::No),
    },
    Class {
        code: "agent_program_missing",
        about: About::MassGen,
        signs: &["cli not found", "cli ('agy') not found", "failed to install lm studio", "copilot-cli/releases"],
        hint: "the operator has to install the program that the message names; or use another backend",
        retry: Some(Retry::No),
    },
    Class {
        code: "config_invalid",
        about: About::MassGen,
        signs: &["got multiple values for keyword argument 'api_key'"],
        hint: "take `api_key` out of that backend in the config: MassGen reads the key from the backend's variable, such as OPENAI_API_KEY",
        retry: Some(Retry::No),
    },
    Class {
        code: "config_invalid",
        about: About::MassGen,
        signs: &[
            "configuration error",
            "config validation failed",
            "error reading config",
            "usage: massgen",
            "context paths not found",
            "got multiple values for keyword argument",
        ],
        hint: "correct the config as the message says, then call run_massgen again",
        retry: Some(Retry::No),
    },
    Class {
        code: "conversation_lost",
        about: About::MassGen,
        signs: &["session error: session"],
        hint: "start a new run without continue_run, and say in its question what matters of the earlier one",
        retry: Some(Retry::No),
    },
    Class {
        code: "no_credit",
        about: About::Call,
        signs: &[
            "error code: 402",
            "tools: 402 ",
            "insufficient_quota",
            "insufficient credits",
            "insufficient balance",
            "credit balance",
            "more credits",
            "any credits",
            "no credits",
            "available credits",
            "prepayment credits",
            "exceeded_current_quota_error",
            "billing_error",
            "billing hard limit",
            "billing_hard_limit",
            "billing_not_active",
            "billingnotactive",
            "check your billing details",
            "enable billing",
            "billing account",
            "limit: 0, model",
            "arrearage",
        ],
        hint: "the provider's account has no credit, billing or budget left: the operator has to add it, or use another provider",
        retry: Some(Retry::No),
    },
    Class {
        code: "quota_spent",
        about: About::Call,
        signs: &["perday", "per-day", "per day", "(rpd)", "(tpd)", "usage limits", "monthly spending limit"],
        hint: "the account's quota of this period is used up: wait until it is renewed, have it raised, or use another model",
        retry: Some(Retry::No),
    },
    Class {
        code: "api_key_rejected",
        about: About::Call,
        signs: &[
            "error code: 401",
            "tools: 401 ",
            "invalid api key",
            "incorrect api key",
            "api key not valid",
            "api_key_invalid",
            "invalid x-api-key",
            "authentication_error",
            "invalid subscription key",
            "reported as leaked",
        ],
        hint: "the provider refused the API key; the operator has to correct it before another run",
        retry: Some(Retry::No),
    },
    Class {
        code: "request_too_large",
        about: About::Call,
        signs: &["request too large", "request_too_large", "error code: 413", "tools: 413 "],
        hint: "one request exceeds the account's tokens per minute: shorten question and context, or have the limit raised",
        retry: Some(Retry::No),
    },
    Class {
        code: "context_too_long",
        about: About::Call,
        signs: &[
            "context_length_exceeded",
            "maximum context length",
            "maximum prompt length",
            "context window",
            "prompt is too long",
            "input is too long",
            "input token count",
            "exceed context limit",
            "context is too long",
        ],
        hint: "the prompt is too long for the model: shorten question and files, or use a model with a larger context",
        retry: Some(Retry::No),
    },
    Class {
        code: "rate_limited",
        about: About::Call,
        signs: &[
            "perminute",
            "error code: 429",
            "tools: 429 ",
            "rate limit reached",
            "rate_limit_e",
            "too many requests",
        ],
        hint: "the provider limits requests: call run_massgen again in some minutes; if it repeats, use fewer agents",
        retry: Some(Retry::Later),
    },
    Class {
        code: "model_access",
        about: About::Call,
        signs: &[
            "error code: 403",
            "tools: 403 ",
            "permission_error",
            "permission_denied",
            "not supported for the api use",
        ],
        hint: "the account may not use this model: the operator has to enable what the message names, or use another model",
        retry: Some(Retry::No),
    },
    Class {
        code: "model_unknown",
        about: About::Call,
        signs: &[
            "model_not_found",
            "does not exist",
            "error code: 404",
            "tools: 404 ",
            "not_found_error",
            "is not a valid model",
            "deploymentnotfound",
            "no endpoints found",
            "decommissioned",
        ],
        hint: "correct the model's name (or base_url) in the config, or use a model that the account has",
        retry: Some(Retry::No),
    },
    Class {
        code: "model_overloaded",
        about: About::Call,
        signs: &["error code: 503", "error code: 529", "tools: 503 ", "tools: 529 ", "overloaded", "at capacity"],
        hint: "the provider is overloaded: call run_massgen again later, or with another model",
        retry: Some(Retry::Later),
    },
    Class {
        code: "tls_failed",
        about: About::Call,
        signs: &["certificate_verify_failed", "certificate verify failed", "sslcertverification", "[ssl:", "sslerror"],
        hint: "the secure connection failed: correct http/https in base_url, or give the proxy's certificate in SSL_CERT_FILE",
        retry: Some(Retry::No),
    },
    Class {
        code: "stream_cut",
        about: About::Call,
        signs: &[
            "peer closed connection",
            "incomplete chunked read",
            "response payload is not completed",
            "transferencodingerror",
            "connection reset",
        ],
        hint: "the connection broke while the model answered: call run_massgen again; if it repeats, check the proxy in between",
        retry: Some(Retry::Later),
    },
    Class {
        code: "not_an_api",
        about: About::Call,
        signs: &["failed to parse response as json", "expecting value: line", "jsondecodeerror"],
        hint: "no model's API answers there (a proxy or login page?): correct base_url or the proxy, then start again",
        retry: Some(Retry::No),
    },
    Class {
        code: "model_unreachable",
        about: About::Call,
        signs: &[
            "cannot connect",
            "connect call failed",
            "connection refused",
            "name or service not known",
            "failed to resolve",
            "server disconnected",
            "request timed out",
        ],
        hint: "check `base_url` in the config and the network of this machine, then call run_massgen again",
        retry: Some(Retry::Later),
    },
    Class {
        // The clients of OpenAI and Anthropic say no more, be it a refused connection, a name, a proxy or a certificate.
        code: "model_unreachable",
        about: About::Call,
        signs: &["connection error"],
        hint: "check `base_url`, proxy, certificates (SSL_CERT_FILE) and network, then call run_massgen again",
        retry: None,
    },
    Class {
        code: "model_error",
        about: About::Call,
        signs: &["error code: 5", "tools: 5"],
        hint: "the model provider answered with an error; call run_massgen again later, or with another model",
        retry: Some(Retry::Later),
    },
    Class {
        code: "model_error",
        about: About::Call,
        signs: &["error code: 4", "tools: 4"],
        hint: "the provider refused the request: correct the model's settings as the message says, or use another model",
        retry: Some(Retry::No),
    },
    Class {
        // What MassGen's Claude backend says of a prompt that is too long; it loses the provider's own words.
        code: "context_too_long",
        about: About::Call,
        signs: &["compression recovery failed"],
        hint: "the prompt is too long for the model or the account's rate limit: shorten question and files, or use another model",
        retry: Some(Retry::No),
    },
    Class {
        // While a client waits for its next try it does not say why.
        code: "model_busy",
        about: About::Call,
        signs: &["[gemini] rate limit", "retrying request to "],
        hint: "the provider limits requests or is overloaded: call run_massgen again later, or with another model",
        retry: Some(Retry::Later),
    },
    Class {
        code: "crashed",
        about: About::MassGen,
        signs: &["traceback (most recent call last)"],
        hint: "see read_result with part `errors`; run it again once, and if it repeats it is a fault of MassGen or of the config",
        retry: Some(Retry::Now),
    },
    Class {
        code: "agents_failed",
        about: About::MassGen,
        signs: &["no successful agents", "no answers available", "failed to use workflow tools", "streaming error"],
        hint: "see read_result with part `errors` for what each agent met, then change the config or the question",
        retry: None,
    },
];
