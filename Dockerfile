# recil as `make demo` installs it: everything pinned, neither TensorFlow nor JAX.
#   docker build -t recil .
#   docker run --rm -v "$PWD:/work" recil run experiment.toml
# Torch's build is pip's usual one unless --build-arg TORCH_PIP_ARGS="..." says what to give to pip, such as the index of
# its smaller CPU wheels.
FROM python:3.11-slim

ARG TORCH_PIP_ARGS=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 MLFLOW_DISABLE_TELEMETRY=true

# g++: drawing slates is compiled once, where there is a compiler.
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/recil
COPY requirements.lock ./
RUN pip install ${TORCH_PIP_ARGS} "torch==2.13.0" && pip install --no-deps -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY data/demo data/demo
COPY recil recil
RUN pip install --no-deps .

# What runs is no administrator, and writes where it is told to: the mounted folder.
RUN useradd --create-home recil && mkdir /work && chown recil /work
USER recil
WORKDIR /work
ENTRYPOINT ["recil"]
CMD ["--help"]
