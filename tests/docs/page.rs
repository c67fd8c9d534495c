//! A page of the documentation as what is to be run: its blocks and the directives between them. Pure. The convention is
//! described in CONTRIBUTING.md.

/// What stands on a page, in its order.
#[derive(Debug)]
pub enum Item {
    Directive(Directive),
    Block(Block),
}

/// A line of a comment `<!-- docs: ... -->`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    pub line: usize,
    pub verb: String,
    pub rest: String,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of its opening fence.
    pub line: usize,
    pub language: String,
    pub text: Vec<String>,
    /// Why it is not run.
    pub not_run: Option<String>,
}

/// A command of a transcript, and the output that must be seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Command {
    pub line: usize,
    /// The host it is typed on; none for the machine itself.
    pub host: Option<String>,
    pub text: String,
    pub output: Vec<String>,
}

/// The languages of blocks with commands; the last one is never run.
pub const WITH_COMMANDS: [&str; 3] = ["console", "sh", "powershell"];

/// The languages that blocks without commands may have.
const SHOWN: [&str; 10] = ["text", "toml", "yaml", "json", "python", "c", "rust", "make", "html", "markdown"];

/// Reads a page. Whatever could let a command escape is an error.
pub fn parse(text: &str) -> Result<Vec<Item>, String> {
    let mut items = Vec::new();
    let mut not_run = None;
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((number, line)) = lines.next() {
        let bare = line.trim_start();
        if let Some(comment) = bare.strip_prefix("<!--") {
            let mut inside = vec![(number, comment.to_string())];
            while !inside.last().is_some_and(|(_, line)| line.contains("-->")) {
                let (number, line) = lines.next().ok_or(format!("{number}: this comment has no end"))?;
                inside.push((number, line.to_string()));
            }
            comment_items(&inside, &mut items, &mut not_run)?;
        } else if let Some(fence) = bare.strip_prefix("```") {
            let indent = line.len() - bare.len();
            let mut block = Block { line: number, language: fence.trim().into(), text: Vec::new(), not_run: None };
            loop {
                let (_, line) = lines.next().ok_or(format!("{number}: this block has no end"))?;
                if line.trim_start().starts_with("```") {
                    break;
                }
                block.text.push(line.get(indent..).unwrap_or("").to_string());
            }
            block.not_run = not_run.take().map(|(_, reason)| reason);
            check(&block)?;
            items.push(Item::Block(block));
        } else if let Some((number, _)) = &not_run {
            return Err(format!("{number}: \"not run\" does not stand right before a block"));
        }
    }
    Ok(items)
}

fn comment_items(
    inside: &[(usize, String)],
    items: &mut Vec<Item>,
    not_run: &mut Option<(usize, String)>,
) -> Result<(), String> {
    let text = inside[0].1.trim_start();
    if let Some(reason) = text.strip_prefix("not run:") {
        let reason = reason.split("-->").next().unwrap_or("").trim().to_string();
        if reason.len() < 10 || inside.len() > 1 {
            return Err(format!("{}: say in a line why this is not run", inside[0].0));
        }
        *not_run = Some((inside[0].0, reason));
    } else if text.starts_with("docs:") {
        for (number, line) in inside {
            let line = line.split("-->").next().unwrap_or("").trim();
            let line = line.strip_prefix("docs:").unwrap_or(line).trim();
            let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
            if !verb.is_empty() {
                items.push(Item::Directive(Directive { line: *number, verb: verb.into(), rest: rest.trim().into() }));
            }
        }
    }
    Ok(())
}

/// Whether a block is of a kind that is allowed.
fn check(block: &Block) -> Result<(), String> {
    let language = block.language.as_str();
    let prompt = block.text.iter().find(|line| prompt(line).is_some());
    match language {
        "console" | "sh" => Ok(()),
        "powershell" if block.not_run.is_some() => Ok(()),
        _ if block.not_run.is_some() => Err(format!("{}: a block of {language} is never run", block.line)),
        "" => Err(format!("{}: a block has no language: console, sh, or text where it has no commands", block.line)),
        _ if !SHOWN.contains(&language) => Err(format!("{}: no language that is known here: {language}", block.line)),
        _ => match prompt {
            Some(line) => {
                Err(format!("{}: a {language} block has a prompt, and nobody would run it: {line}", block.line))
            }
            None => Ok(()),
        },
    }
}

/// The host of a prompt, none for the machine, and what is typed behind it.
fn prompt(line: &str) -> Option<(Option<String>, &str)> {
    let (before, typed) = match line.split_once("$ ") {
        Some(found) => found,
        None => (line.strip_suffix('$')?, ""),
    };
    let host = match before {
        "" => return Some((None, typed)),
        _ => before.strip_suffix(':')?,
    };
    let sound = host.starts_with(|it: char| it.is_ascii_lowercase())
        && host.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '-');
    sound.then(|| (Some(host.to_string()), typed))
}

/// The parts of a page that do not build on one another.
pub fn parts(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut parts = vec![Vec::new()];
    for item in items {
        match item {
            Item::Directive(Directive { verb, .. }) if verb == "part" => parts.push(Vec::new()),
            item => parts.last_mut().expect("there is one").push(item),
        }
    }
    parts
}

/// Takes a line as it stands in a directive: a prompt, and what is typed.
pub fn typed(line: &str) -> Option<(Option<String>, String)> {
    prompt(line).map(|(host, text)| (host, text.to_string()))
}

impl Block {
    pub fn has_commands(&self) -> bool {
        WITH_COMMANDS.contains(&self.language.as_str())
    }

    /// The commands of a transcript. A prompt with nothing behind it is no command.
    pub fn commands(&self) -> Result<Vec<Command>, String> {
        let mut commands: Vec<Command> = Vec::new();
        let mut continued = false;
        for (index, line) in self.text.iter().enumerate() {
            let number = self.line + 1 + index;
            if continued {
                let command = commands.last_mut().ok_or("a line cannot go on before it begins")?;
                command.text.push('\n');
                command.text.push_str(line);
            } else if let Some((host, text)) = prompt(line) {
                commands.push(Command { line: number, host, text: text.into(), output: Vec::new() });
            } else {
                let command = commands.last_mut().ok_or(format!("{number}: output without a command before it"))?;
                command.output.push(line.clone());
                continue;
            }
            continued = line.ends_with('\\');
        }
        let empty = |command: &Command| command.text.trim().is_empty();
        if let Some(strange) = commands.iter().find(|it| empty(it) && it.output.iter().any(|line| !line.is_empty())) {
            return Err(format!("{}: output after a prompt without a command", strange.line));
        }
        commands.retain(|command| !empty(command));
        if commands.is_empty() {
            return Err(format!("{}: a console block without a command", self.line));
        }
        Ok(commands)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocks(text: &str) -> Vec<Block> {
        let items = parse(text).unwrap();
        items.into_iter().filter_map(|item| if let Item::Block(block) = item { Some(block) } else { None }).collect()
    }

    #[test]
    fn a_transcript_has_commands_on_hosts_and_their_output() {
        let text = "Look:\n\n```console\n$ vpnlab lab shell useru\nuseru:$\nuseru:$ echo a \\\n  b\na b\n\n```\n";
        let blocks = blocks(text);
        let commands = blocks[0].commands().unwrap();
        let shell = Command { line: 4, host: None, text: "vpnlab lab shell useru".into(), output: vec![] };
        let output = vec!["a b".to_string(), String::new()];
        let echo = Command { line: 6, host: Some("useru".into()), text: "echo a \\\n  b".into(), output };
        assert_eq!(commands, [shell, echo]);
    }

    #[test]
    fn directives_stand_in_comments_of_a_line_or_several() {
        let items =
            parse("<!-- docs: lab step=4 -->\n<!-- docs:\nstart server:$ x --role y\nwait server up\n-->\n").unwrap();
        let directives: Vec<(usize, &str, &str)> = items
            .iter()
            .map(|item| match item {
                Item::Directive(it) => (it.line, it.verb.as_str(), it.rest.as_str()),
                Item::Block(block) => panic!("{block:?}"),
            })
            .collect();
        assert_eq!(directives, [(1, "lab", "step=4"), (3, "start", "server:$ x --role y"), (4, "wait", "server up")]);
    }

    #[test]
    fn what_is_not_run_has_a_reason() {
        let blocks = blocks("<!-- not run: it takes half an hour -->\n```sh\nsleep 1800\n```\n");
        assert_eq!(blocks[0].not_run.as_deref(), Some("it takes half an hour"));
        assert!(parse("<!-- not run: -->\n```sh\nx\n```\n").is_err());
        assert!(parse("<!-- not run: it takes half an hour -->\nBut then\n```sh\nx\n```\n").is_err());
    }

    #[test]
    fn nothing_escapes() {
        for text in [
            "```\nuseru:$ ls\n```\n",
            "```\nno prompt at all\n```\n",
            "```text\nuseru:$ ls\n```\n",
            "```text\n$ ls\n```\n",
            "```bash\nls\n```\n",
            "```shell\nls\n```\n",
            "```console\n$ ls\n",
            "<!-- docs: lab\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        assert!(blocks("```console\nno command\n```\n")[0].commands().is_err());
        assert!(blocks("```console\nuseru:$\n```\n")[0].commands().is_err());
        assert!(blocks("```console\n$ ls\nuseru:$\nx\n```\n")[0].commands().is_err());
    }

    #[test]
    fn what_looks_like_a_prompt_and_is_none_is_output() {
        let block = &blocks("```console\n$ cat bill\n5$ each\nTotal: 7$\nA:$ b\n```\n")[0];
        assert_eq!(block.commands().unwrap()[0].output.len(), 3);
    }
}
