#!/bin/sh
# Adds the server to Cline for the project in the working folder.
exec cline mcp add massgen --yes -- massgen-mcp --project "$PWD"
