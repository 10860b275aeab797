# Everything runs in .venv, which is made again when the dependencies change.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: report test slow check bench digits record record-counts record-study record-gpu record-segmenter record-times mutants clean

report: $(READY)  ## count all four variants, print the table, and write it, what attention costs and the whole page to out/
	mkdir -p out
	$(BIN)/mpvit flops --check
	$(BIN)/mpvit --quiet flops --check -o out/flops.md
	$(BIN)/mpvit --quiet flops --check -o out/flops.json
	$(BIN)/mpvit --quiet compare-attn -o out/attention.md
	$(BIN)/mpvit --quiet compare-attn -o out/attention.json
	$(BIN)/mpvit --quiet report --variant all --measure -o out/report
	@printf '\nWritten to out/. Open this first:\n'
	@printf '  %-36s %s\n' out/report/report.html 'everything on one page, in a browser' \
	  out/report/report.md 'the same as Markdown; report.json has every number' \
	  out/flops.md,\ out/flops.json 'the table above' \
	  out/attention.md,\ out/attention.json 'what attention costs as the tokens grow'

test: $(READY)  ## the normal tests: some three minutes on two cores
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(READY)  ## hundreds of random configurations, and a whole installation of the wheel
	$(BIN)/python -m pytest -m slow -n 2

check: $(READY)  ## the whole gate
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(MAKE) --no-print-directory test slow

bench: $(READY)  ## measure speed as ratios within one run, print the table and write it to out/
	$(BIN)/python -m tests.benchmarks --output out

digits: $(READY)  ## train the network that comes along anew, into out/, and put its weights into the package
	rm -rf out/digits-nano
	$(BIN)/mpvit train digits -o out/digits-nano --threads 1
	cp out/digits-nano/weights.safetensors src/mpvit/data/digits-nano.safetensors

record: record-counts record-study record-segmenter record-times  ## make all of reports/ again; the only command that writes there

record-counts: $(READY)  ## what is counted: some ten seconds
	$(BIN)/mpvit flops --check -o reports/flops.md
	$(BIN)/mpvit flops --check -o reports/flops.json
	$(BIN)/mpvit flops --task all --check -o reports/dense.md
	$(BIN)/mpvit flops --task all --check -o reports/dense.json
	$(BIN)/mpvit memory --task retinanet,mask-rcnn,upernet --batch 2 -o reports/dense_memory.json
	$(BIN)/mpvit reconcile --task all --variant small -o reports/dense_reconcile.json
	$(BIN)/mpvit compare-attn --task retinanet --variant small -o reports/dense_attention.md
	$(BIN)/mpvit compare-attn -o reports/attention.md
	$(BIN)/mpvit compare-attn -o reports/attention.json
	$(BIN)/mpvit reconcile --variant all --layout published -o reports/reconcile.json
	$(BIN)/mpvit reconcile --variant xsmall --layout published --plot reports/reconcile_xsmall.svg -o reports/reconcile_xsmall.md
	$(BIN)/mpvit search --max-macs 3G --max-params 11M --plot reports/search_front.svg

record-times: $(READY)  ## what is measured: an hour, most of it torch's compiler, on a machine that does nothing else
	$(BIN)/python -m tests.benchmarks --output reports
	$(BIN)/mpvit compare-attn --measure --budget 100 --threads 1 --kind softmax,sdpa,factorized,factorized_crpe,efficient,linear,cross_covariance,hydra --plot reports/attention_measured.svg -o reports/attention_measured.json
	$(BIN)/mpvit bench --variant all --mode all --batch 1,8 --threads 2 --min-time 1 --plot reports/bench.svg -o reports/bench.json -o reports/bench.md
	$(BIN)/mpvit bench --variant all --mode openvino,openvino-fused,fused --batch 1,8 --threads 2 --min-time 4 -o reports/bench_openvino.json -o reports/bench_openvino.md
	$(BIN)/mpvit bench --variant all --mode openvino,openvino-fused,fused,plain --batch 1,8 --threads 1 --min-time 3 -o reports/bench_one_thread.json -o reports/bench_one_thread.md
	$(BIN)/mpvit bench --variant all --mode openvino,openvino-fused,fused,plain --batch 1,8 --threads 2 --dtype bfloat16 --min-time 3 -o reports/bench_bfloat16.json -o reports/bench_bfloat16.md
	$(BIN)/mpvit report --variant all --measure --study reports/scales --weights src/mpvit/data/digits-nano.safetensors -o reports/report

record-study: $(READY)  ## what paths are worth on scales, and what those of digits-nano see: some two hours on two cores
	$(BIN)/mpvit ablate paths=1,2,3,4 --config reports/scales/scales-nano.toml --train scales --epochs 4 --set batch=32 --set warmup=1 --set shift=0 --seeds 5 --jobs 2 -o out/scales
	$(BIN)/mpvit ablate paths=1,2,3,4 --config reports/scales/scales-nano.toml --train scales --epochs 4 --set batch=32 --set warmup=1 --set shift=0 --seeds 5 --jobs 2 --match macs -o out/scales
	cp out/scales/ablations.json out/scales/*.md out/scales/*.svg reports/scales/
	$(BIN)/mpvit report --from reports/report --study reports/scales --weights src/mpvit/data/digits-nano.safetensors

record-segmenter: $(READY)  ## a segmenter of digits on textures, and what it sees: a quarter of an hour on one core
	rm -rf out/segmenter
	$(BIN)/mpvit train --task semantic-fpn digits-on-textures --threads 1 -o out/segmenter
	mkdir -p reports/segmenter out/segmenter/pictures
	$(BIN)/python -c 'from mpvit.training.data import open_data; part = open_data("digits-on-textures", masked=True).held_out; [part.read(i).save(f"out/segmenter/pictures/{i:03}.png") for i in range(12)]'
	$(BIN)/mpvit eval digits-on-textures --weights out/segmenter/weights.safetensors --threads 1 --plot reports/segmenter/confusion.svg -o reports/segmenter/eval.json
	$(BIN)/mpvit eval digits-on-textures --weights out/segmenter/weights.safetensors --threads 1 -o reports/segmenter/eval.md
	$(BIN)/mpvit predict out/segmenter/pictures --weights out/segmenter/weights.safetensors --plot reports/segmenter/overlay.png -o reports/segmenter/overlay.json
	cp out/segmenter/curves.svg out/segmenter/log.jsonl reports/segmenter/

record-gpu: $(READY)  ## what a GPU was needed for: some eight minutes on one, and not part of record
	$(BIN)/mpvit ablate paths=1,2,3 --config reports/scales/scales-nano.toml --train scales --epochs 12 --set batch=128 --set rate=0.01 --set warmup=1 --set shift=0 --seeds 5 --jobs 20 --device cuda -o out/scales_longer
	$(BIN)/mpvit compare-attn --measure --device cuda --budget 15 --kind softmax,sdpa,factorized,factorized_crpe --plot reports/attention_cuda.svg -o reports/attention_cuda.json
	cp out/scales_longer/ablations.json out/scales_longer/*.md out/scales_longer/*.svg reports/scales_longer/

mutants: $(READY)  ## changes of the code that no test sees: for hours, not in the gate; reports/mutation.md has what was found
	$(BIN)/python -m pip install --quiet mutmut==3.8.1
	$(BIN)/mutmut run

# pip builds fvcore and iopath from source, in environments of their own that --constraint does not reach. The first variable
# does in pip before 25.3, the second from then on. Relative, because pip splits both at spaces.
$(READY): export PIP_CONSTRAINT := constraints.txt
$(READY): export PIP_BUILD_CONSTRAINT := constraints.txt
$(READY): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Error: $(PYTHON) is older than Python 3.11, which mpvit needs. Hint: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	@echo 'Installing into .venv: some minutes the first time'
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist out mutants .mypy_cache .pytest_cache .ruff_cache .hypothesis
