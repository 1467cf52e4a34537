#!/bin/sh
# Adds the server to Claude Code for the project in the working folder; the key comes from your environment.
exec claude mcp add massgen --env "OPENAI_API_KEY=$OPENAI_API_KEY" -- massgen-mcp --project "$PWD"
