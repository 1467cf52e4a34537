//! Reads the parts of a run as pages, with secrets masked and harmful characters replaced. No file outside the run's folder is
//! opened, except the config for its keys. A missing part is an error that says what exists instead.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::{Fleet, FleetError, blocking};
use crate::massgen::answers::{self, Answer};
use crate::massgen::configs::Tree;
use crate::massgen::files::{EntryKind, FolderEntry, RunFiles};
use crate::massgen::layout::Layout;
use crate::massgen::pages::{self, Page, PageLimit, TextStream};
use crate::massgen::timeline::{self, Timeline};
use crate::massgen::{reasons, text};
use crate::provenance::Manifest;
use crate::registry::{MANIFEST_FILE, RunFolder, STDERR_LOG, STDOUT_LOG, rotated_log};
use crate::report;
use crate::report::answer_diff::{AnswerDiff, MAX_COMPARED_BYTES};
use crate::run::{ConfigChoice, NextStep, RunId, RunRecord, Step, Wording};
use crate::secrets::Secrets;

/// The most files in a listing.
const MAX_FILES: usize = 1_000;
/// The most folders that a listing reads.
const MAX_FOLDERS: usize = 1_000;
/// The most log lines in part `errors`.
const MAX_ERRORS: usize = 200;
/// How many bytes at the end of each log part `errors` reads.
const MAX_LOG_BYTES: u64 = 4 << 20;
/// How many bytes at the start of a file decide whether it is text.
const BINARY_CHECK_BYTES: u64 = 8 << 10;
/// The gap that a report shows for a run without a log folder.
const NO_LOG_MESSAGE: &str = "MassGen left no log folder: it never ran, or has not begun";

/// A part of a run that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResultPart {
    /// The best answer.
    Answer,
    /// All answers of the agents, labelled.
    Answers,
    /// The list of files in the winner's workspace.
    Files,
    /// One file of the winner's workspace.
    File(String),
    /// MassGen's log, or its printed output if it has no log.
    Log,
    /// The output of one agent.
    Agent(String),
    /// The errors, each line once.
    Errors,
    /// A short report: how the run went and why.
    Report,
    /// The manifest: the run's inputs and outputs; for a live run, what is known now.
    Manifest,
}

/// A page of a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartPage {
    /// The page.
    pub page: Page,
    /// The file of the part, if it is a single file.
    pub path: Option<PathBuf>,
    /// The agent that gave the best answer.
    pub winner: Option<String>,
    /// The label of that answer, if it has one.
    pub label: Option<String>,
    /// Whether the answer is not the final answer of a successful run.
    pub is_partial: bool,
}

/// A part that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The part does not exist.
    #[error("{what}")]
    Missing {
        /// What is missing.
        what: String,
        /// What exists instead.
        instead: NextStep,
    },
    /// The part exists and cannot be read.
    #[error("cannot read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is not a text.
    #[error("`{}` is a binary file of {bytes} bytes", path.display())]
    Binary {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// The run could not be read.
    #[error(transparent)]
    Fleet(#[from] FleetError),
}

/// A text that is not the name of a part.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no part of a result")]
pub struct InvalidPart(pub String);

impl FromStr for ResultPart {
    type Err = InvalidPart;

    fn from_str(text: &str) -> Result<ResultPart, InvalidPart> {
        match text {
            "answer" => Ok(ResultPart::Answer),
            "answers" => Ok(ResultPart::Answers),
            "files" => Ok(ResultPart::Files),
            "log" => Ok(ResultPart::Log),
            "errors" => Ok(ResultPart::Errors),
            "report" => Ok(ResultPart::Report),
            "manifest" => Ok(ResultPart::Manifest),
            other => match other.split_once(':') {
                Some(("file", path)) if !path.is_empty() => Ok(ResultPart::File(path.to_owned())),
                Some(("agent", id)) if !id.is_empty() => Ok(ResultPart::Agent(id.to_owned())),
                _ => Err(InvalidPart(other.chars().take(80).collect())),
            },
        }
    }
}

impl Fleet {
    /// Reads a page of a part from character `offset` on; for a live run, from what exists now.
    pub async fn read_page(
        &self,
        id: &RunId,
        part: ResultPart,
        offset: u64,
        limit: impl Into<PageLimit>,
    ) -> Result<(RunRecord, PartPage), ReadError> {
        let limit = limit.into();
        let record = self.run_record(id).await?;
        let root = self.run_folder(id).path().to_owned();
        let (run, secrets, wording) = (record.clone(), self.secrets.clone(), self.wording);
        let page = blocking(move || {
            let secrets = secrets.with_values(config_key_values(&run));
            RunReader::open(&root, run, secrets, wording)?.read_page(&part, offset, limit)
        });
        let page = page.await??;
        Ok((record, page))
    }
}

/// The keys in the config that a run was started with. MassGen got them in its environment, so its output may contain them.
/// If the config was changed or removed since then, the keys are unknown.
pub(super) fn config_key_values(run: &RunRecord) -> Vec<String> {
    let ConfigChoice::File(path) = &run.spec.config else { return Vec::new() };
    let tree = std::fs::read_to_string(path).ok().and_then(|text| Tree::parse_file(path, &text).ok());
    tree.map(|tree| tree.secrets()).unwrap_or_default().into_iter().map(|secret| secret.value).collect()
}

/// The facts about a part that was written as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamedPart {
    /// The file of the part, if it is a single file.
    pub path: Option<PathBuf>,
    /// The agent that gave the best answer.
    pub winner: Option<String>,
    /// Whether that answer is not the final answer of a successful run.
    pub is_partial: bool,
}

impl Fleet {
    /// Writes a whole part of any size, with the text that pages would show; for a live run, what exists now.
    ///
    /// # Errors
    ///
    /// If the part does not exist or cannot be read. A failed write is reported as an unreadable file.
    pub async fn stream_part(
        &self,
        id: &RunId,
        part: ResultPart,
        out: impl Write + Send + 'static,
    ) -> Result<(RunRecord, StreamedPart), ReadError> {
        let record = self.run_record(id).await?;
        let root = self.run_folder(id).path().to_owned();
        let (run, secrets, wording) = (record.clone(), self.secrets.clone(), self.wording);
        let streamed = blocking(move || {
            let secrets = secrets.with_values(config_key_values(&run));
            RunReader::open(&root, run, secrets, wording)?.stream_part(&part, out)
        });
        let streamed = streamed.await??;
        Ok((record, streamed))
    }
}

impl Fleet {
    /// The events of a run that MassGen has recorded so far, with secrets masked.
    pub async fn timeline(&self, id: &RunId) -> Result<Timeline, ReadError> {
        let record = self.run_record(id).await?;
        let root = self.run_folder(id).path().to_owned();
        let (secrets, wording) = (self.secrets.clone(), self.wording);
        blocking(move || {
            let secrets = secrets.with_values(config_key_values(&record));
            Ok(RunReader::open(&root, record, secrets, wording)?.timeline())
        })
        .await?
    }
}

/// Reads the parts of a run.
pub(super) struct RunReader {
    root: PathBuf,
    files: Arc<RunFiles>,
    layout: Option<Layout>,
    run: RunRecord,
    secrets: Secrets,
    /// The words for next steps in reports and lists of errors.
    wording: Wording,
}

/// The text of a part, and its file if it is a single file.
pub(super) struct PartSource {
    pub(super) text: Box<dyn Read>,
    path: Option<PathBuf>,
}

/// A piece of a text that is joined from several.
enum TextPiece {
    Text(String),
    File(PathBuf),
}

/// Reads pieces as one text; at most one file is open at a time.
struct JoinedReader {
    files: Arc<RunFiles>,
    pieces: VecDeque<TextPiece>,
    current: Box<dyn Read>,
}

impl Read for JoinedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.current.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            match self.pieces.pop_front() {
                None => return Ok(0),
                Some(TextPiece::Text(text)) => self.current = Box::new(Cursor::new(text)),
                Some(TextPiece::File(path)) => self.current = Box::new(self.files.open_file(&path)?.0),
            }
        }
    }
}

impl RunReader {
    pub(super) fn open(
        root: &Path,
        run: RunRecord,
        secrets: Secrets,
        wording: Wording,
    ) -> Result<RunReader, ReadError> {
        if run.spec.origin.experiment.is_some() && !root.exists() {
            return Err(ReadError::Missing {
                what: "the run was not started, so that there is nothing of it".to_owned(),
                instead: Step::WaitForItsTurn.into(),
            });
        }
        let files = RunFiles::open(root).map_err(|source| ReadError::Unreadable { path: root.to_owned(), source })?;
        let layout = Layout::find(&files, run.log_dir.as_deref());
        Ok(RunReader { root: root.to_owned(), files: Arc::new(files), layout, run, secrets, wording })
    }

    pub(super) fn read_page(&self, part: &ResultPart, offset: u64, limit: PageLimit) -> Result<PartPage, ReadError> {
        let answer = self.best_answer();
        let source = self.source(part, answer.as_ref())?;
        let path = source.path.clone();
        let unreadable = |error| ReadError::Unreadable { path: path.clone().unwrap_or_default(), source: error };
        let page = pages::read_page(source.text, offset, limit, &self.secrets).map_err(unreadable)?;
        let is_partial = answer.as_ref().is_some_and(|answer| self.run.state.is_partial_answer(answer.source));
        let label = answer.as_ref().and_then(|answer| answer.label.as_deref()).map(text::safe_name);
        Ok(PartPage { page, path, winner: answer.map(|answer| text::safe_name(&answer.agent)), label, is_partial })
    }

    fn stream_part(&self, part: &ResultPart, mut out: impl Write) -> Result<StreamedPart, ReadError> {
        let answer = self.best_answer();
        let PartSource { mut text, path } = self.source(part, answer.as_ref())?;
        let unreadable = |source| ReadError::Unreadable { path: path.clone().unwrap_or_default(), source };
        let mut stream = TextStream::new(&self.secrets);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = text.read(&mut buffer).map_err(unreadable)?;
            let piece = if read == 0 { stream.finish() } else { stream.push(&buffer[..read]) };
            out.write_all(piece.as_bytes()).map_err(unreadable)?;
            if read == 0 {
                out.flush().map_err(unreadable)?;
                break;
            }
        }
        let is_partial = answer.as_ref().is_some_and(|answer| self.run.state.is_partial_answer(answer.source));
        Ok(StreamedPart { winner: answer.map(|answer| text::safe_name(&answer.agent)), is_partial, path })
    }

    /// The text of a part.
    pub(super) fn source(&self, part: &ResultPart, answer: Option<&Answer>) -> Result<PartSource, ReadError> {
        Ok(match part {
            ResultPart::Answer => self.file(&answer.ok_or_else(|| self.no_answer())?.path)?,
            ResultPart::Answers => self.answers()?,
            ResultPart::Files => self.listing(&self.workspace(answer)?),
            ResultPart::File(path) => self.text_file(&self.path_in_workspace(answer, path)?)?,
            ResultPart::Log => self.log()?,
            ResultPart::Agent(id) => self.agent(id)?,
            ResultPart::Errors => self.errors(),
            ResultPart::Report => self.report(),
            ResultPart::Manifest => self.manifest()?,
        })
    }

    fn best_answer(&self) -> Option<Answer> {
        answers::best(&self.files, self.layout.as_ref()?, self.run.digest.as_ref())
    }

    /// The best answer, cut after `most` bytes.
    pub(super) fn best_answer_text(&self, max_bytes: u64) -> Option<String> {
        let (file, _) = self.files.open_file(&self.best_answer()?.path).ok()?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes).ok()?;
        Some(self.secrets.mask(&String::from_utf8_lossy(&bytes)).into_owned())
    }

    /// The votes that were valid at the end, by label; if MassGen recorded no single votes, its own count.
    pub(super) fn votes(&self) -> BTreeMap<String, u32> {
        let digest = self.run.digest.as_ref();
        let layout = self.layout.as_ref();
        let standing = layout.and_then(|layout| timeline::standing_votes(&self.files, layout, digest, &self.secrets));
        standing.map(|standing| standing.votes).or_else(|| Some(digest?.votes.clone())).unwrap_or_default()
    }

    fn candidates(&self) -> Vec<Answer> {
        let layout = self.layout.as_ref();
        layout.map(|layout| answers::candidates(&self.files, layout, self.run.digest.as_ref())).unwrap_or_default()
    }

    fn no_answer(&self) -> ReadError {
        let (what, instead) = match self.run.state.ending() {
            Some(_) => ("the run ended without any answer", NextStep::from("see part `errors` for why, or part `log`")),
            None => ("no agent has answered yet", Step::WaitForAnswer.into()),
        };
        ReadError::Missing { what: what.to_owned(), instead }
    }

    fn file(&self, path: &Path) -> Result<PartSource, ReadError> {
        let absolute = self.files.absolute(path);
        let opened = self.files.open_file(path);
        let (file, _) = opened.map_err(|source| ReadError::Unreadable { path: absolute.clone(), source })?;
        Ok(PartSource { text: Box::new(file), path: Some(absolute) })
    }

    /// Opens a file that an agent created; refuses a binary file, such as an image or an archive.
    fn text_file(&self, path: &Path) -> Result<PartSource, ReadError> {
        let head = self.files.head(path, BINARY_CHECK_BYTES).unwrap_or_default();
        if text::is_binary(&head) {
            let bytes = self.files.version(path).map(|stamp| stamp.bytes).unwrap_or_default();
            return Err(ReadError::Binary { path: self.files.absolute(path), bytes });
        }
        self.file(path)
    }

    fn answers(&self) -> Result<PartSource, ReadError> {
        let all = self.candidates();
        if all.is_empty() {
            return Err(self.no_answer());
        }
        let pieces = all.iter().flat_map(|answer| {
            let label = text::safe_name(answer.label.as_deref().unwrap_or("answer"));
            [
                TextPiece::Text(format!("=== {label} ({}) ===\n", text::safe_name(&answer.agent))),
                TextPiece::File(answer.path.clone()),
                TextPiece::Text("\n\n".to_owned()),
            ]
        });
        Ok(self.join(pieces.collect()))
    }

    fn join(&self, pieces: VecDeque<TextPiece>) -> PartSource {
        PartSource {
            text: Box::new(JoinedReader { files: self.files.clone(), pieces, current: Box::new(io::empty()) }),
            path: None,
        }
    }

    /// The workspace that MassGen saved in the folder of an answer.
    fn workspace(&self, answer: Option<&Answer>) -> Result<PathBuf, ReadError> {
        let workspace = answer.and_then(|answer| answer.path.parent()).map(|folder| folder.join("workspace"));
        workspace.filter(|folder| self.files.is_folder(folder)).ok_or_else(|| ReadError::Missing {
            what: "the winner has no workspace".to_owned(),
            instead: "only agents with a `cwd` in their config have one; the answer itself is part `answer`".into(),
        })
    }

    fn path_in_workspace(&self, answer: Option<&Answer>, path: &str) -> Result<PathBuf, ReadError> {
        let workspace = self.workspace(answer)?;
        let is_plain =
            Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        let joined = workspace.join(path);
        if is_plain && self.files.has_file(&joined) {
            return Ok(joined);
        }
        Err(ReadError::Missing {
            what: format!("there is no file `{path}` in the winner's workspace"),
            instead: "part `files` lists what there is; paths are relative to the workspace".into(),
        })
    }

    fn listing(&self, workspace: &Path) -> PartSource {
        let (mut lines, mut pending, mut folders_read) = (Vec::new(), vec![PathBuf::new()], 0);
        while lines.len() <= MAX_FILES
            && folders_read < MAX_FOLDERS
            && let Some(folder) = pending.pop()
        {
            folders_read += 1;
            for FolderEntry { name, kind, size } in self.files.list(&workspace.join(&folder)) {
                match kind {
                    EntryKind::File => {
                        let path = text::safe_name(&folder.join(name).to_string_lossy());
                        lines.push(format!("{size:>10}  {path}"));
                    }
                    EntryKind::Folder => pending.push(folder.join(name)),
                    EntryKind::Other => {}
                }
            }
        }
        if lines.len() > MAX_FILES || !pending.is_empty() {
            lines.truncate(MAX_FILES);
            lines.push(format!("(the first {} files, in {folders_read} folders; the rest is on disk)", lines.len()));
        }
        let text = lines.join("\n");
        PartSource { text: Box::new(Cursor::new(text)), path: Some(self.files.absolute(workspace)) }
    }

    fn log(&self) -> Result<PartSource, ReadError> {
        if let Some(path) = self.layout.as_ref().and_then(|layout| layout.massgen_log(&self.files)) {
            return self.file(&path);
        }
        Ok(self.join(
            self.output_logs().into_iter().filter(|path| self.files.has_file(path)).map(TextPiece::File).collect(),
        ))
    }

    /// The files with MassGen's printed output, oldest first.
    fn output_logs(&self) -> Vec<PathBuf> {
        [STDOUT_LOG, STDERR_LOG].iter().map(Path::new).flat_map(|log| [rotated_log(log), log.to_owned()]).collect()
    }

    fn agent(&self, id: &str) -> Result<PartSource, ReadError> {
        match self.agent_file(id) {
            Ok(path) => self.file(&path),
            Err(entries) => Err(ReadError::Missing {
                what: format!("there is no output of an agent `{id}`"),
                instead: format!("there is output of: {}", entry_names(&entries)).into(),
            }),
        }
    }

    /// The output file of an agent, or the entries of the output folder if it has none.
    fn agent_file(&self, id: &str) -> Result<PathBuf, Vec<FolderEntry>> {
        let outputs = self.layout.as_ref().map(|layout| layout.attempt.join("agent_outputs")).unwrap_or_default();
        let file_name = format!("{id}.txt");
        let entries = self.files.list(&outputs);
        // Compare the requested name with the folder's entries; never join it to a path.
        let found = entries.iter().find(|entry| entry.kind == EntryKind::File && entry.name == file_name);
        found.map(|entry| outputs.join(&entry.name)).ok_or(entries)
    }

    /// The file of a part that MassGen appends to while it runs, if it exists yet.
    pub(super) fn growing_file(&self, part: &ResultPart) -> Option<PathBuf> {
        match part {
            ResultPart::Log => self.layout.as_ref()?.massgen_log(&self.files),
            ResultPart::Agent(id) => self.agent_file(id).ok(),
            ResultPart::Answer
            | ResultPart::Answers
            | ResultPart::Files
            | ResultPart::File(_)
            | ResultPart::Errors
            | ResultPart::Report
            | ResultPart::Manifest => None,
        }
    }

    /// At most `most` bytes of a file from `offset` on; `None` if the file is shorter than `offset`.
    pub(super) fn read_from(&self, path: &Path, offset: u64, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let (mut file, size) = self.files.open_file(path)?;
        if size < offset {
            return Ok(None);
        }
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(max_bytes).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// The manifest written at the run's end; before that, one that is built now.
    fn manifest(&self) -> Result<PartSource, ReadError> {
        if self.run.state.ending().is_none() {
            let text = Manifest::for_run(&self.files, &self.run, &self.secrets).to_json();
            return Ok(PartSource { text: Box::new(Cursor::new(text)), path: None });
        }
        if self.files.has_file(Path::new(MANIFEST_FILE)) {
            return self.file(Path::new(MANIFEST_FILE));
        }
        Err(ReadError::Missing {
            what: "the run has no manifest: it was ended by an older massgen-mcp, or it could not be written"
                .to_owned(),
            instead: Step::ReadStatus.into(),
        })
    }

    fn errors(&self) -> PartSource {
        let mut lines: Vec<String> = self
            .run
            .state
            .ending()
            .and_then(|ending| ending.outcome.problem())
            .into_iter()
            .map(|problem| format!("{}: {} ({})", problem.code, problem.message, (self.wording)(&problem.next)))
            .collect();
        let first = self.run.digest.as_ref().and_then(|digest| digest.first_error.clone());
        lines.extend(first.map(|error| format!("first error of a model call: {error}")));
        let logs = [rotated_log(Path::new(STDERR_LOG)), PathBuf::from(STDERR_LOG)].into_iter();
        let mut logged = reasons::ErrorLines::default();
        for log in logs.chain(self.layout.as_ref().and_then(|layout| layout.massgen_log(&self.files))) {
            let tail = self.files.tail(&log, MAX_LOG_BYTES).unwrap_or_default();
            logged.add_log(&self.secrets.mask(whole_lines(&tail)));
        }
        lines.extend(logged.into_lines(MAX_ERRORS));
        if lines.is_empty() {
            lines.push("no errors were logged".to_owned());
        }
        PartSource { text: Box::new(Cursor::new(lines.join("\n"))), path: None }
    }

    /// The timeline; without a log folder it has only a gap.
    fn timeline(&self) -> Timeline {
        let digest = self.run.digest.as_ref();
        let timeline = self.layout.as_ref().map(|layout| Timeline::read(&self.files, layout, digest, &self.secrets));
        timeline.unwrap_or_else(|| Timeline { gaps: vec![NO_LOG_MESSAGE.to_owned()], ..Timeline::default() })
    }

    fn report(&self) -> PartSource {
        let timeline = self.timeline();
        let mut record = self.run.clone();
        // Mask before the report cuts the question: a secret that is cut would not be recognized.
        record.spec.question = self.secrets.mask(&record.spec.question).into_owned();
        let built_on_by = RunFolder::from_path(&self.root).map(|folder| folder.dependents()).unwrap_or_default();
        let text =
            report::run::run_report(&record, &timeline, self.winner_answer_diff().as_ref(), &built_on_by, self.wording);
        PartSource { text: Box::new(Cursor::new(text)), path: None }
    }

    /// The difference between the first and the presented answer of the agent that won.
    fn winner_answer_diff(&self) -> Option<AnswerDiff> {
        let last = answers::presented(&self.files, self.layout.as_ref()?, self.run.digest.as_ref())?;
        let first = self.candidates().into_iter().find(|answer| answer.agent == last.agent)?;
        let read = |path: &Path| {
            // Read more than is compared, so that a secret at the cut is still recognized.
            let bytes = self.files.head(path, MAX_COMPARED_BYTES as u64 * 2).ok()?;
            Some(self.secrets.mask(&String::from_utf8_lossy(&bytes)).into_owned())
        };
        let (old, new) = (read(&first.path)?, read(&last.path)?);
        let agent = text::single_line(&self.secrets.mask(&last.agent), 64);
        Some(AnswerDiff::compare(&agent, (first.path, &old), (last.path, &new)))
    }
}

/// The end of a log, without its first line if that may be cut: a secret that is cut would not be recognized.
fn whole_lines(end: &str) -> &str {
    let is_cut = end.len() as u64 >= MAX_LOG_BYTES;
    end.split_once('\n').filter(|_| is_cut).map_or(end, |(_, rest)| rest)
}

fn entry_names(entries: &[FolderEntry]) -> String {
    let names: Vec<_> =
        entries.iter().filter_map(|entry| entry.name.strip_suffix(".txt")).map(text::safe_name).collect();
    if names.is_empty() { "no agent yet".to_owned() } else { names.join(", ") }
}
