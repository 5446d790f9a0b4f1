# An image that serves fusions on the processor: the page for chat and OpenAI's interface.
# docs/install.md says how to build and run it. It has not been built where this repository is
# written, because no container can be run there; the commands in it are those of docs/install.md.

FROM python:3.12-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential \
    && rm -rf /var/lib/apt/lists/*
# llama.cpp is compiled for any x86-64 with AVX2, or any ARM, and not for the machine that builds:
# the image may run elsewhere. For this machine alone: --build-arg CMAKE_ARGS="-DGGML_NATIVE=on".
ARG CMAKE_ARGS="-DGGML_NATIVE=off"
ENV CMAKE_ARGS=$CMAKE_ARGS
RUN python -m venv /opt/cf-local
# First what changes least: compiling takes five minutes, and its layer is kept.
COPY pyproject.toml /src/
RUN /opt/cf-local/bin/python -c "import tomllib; \
        project = tomllib.load(open('/src/pyproject.toml', 'rb'))['project']; \
        print(*project['dependencies'], *project['optional-dependencies']['server'], sep='\n')" \
        > /src/requirements.txt \
    && /opt/cf-local/bin/pip install --no-cache-dir --requirement /src/requirements.txt
COPY . /src
RUN /opt/cf-local/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /src/dist /src \
    && /opt/cf-local/bin/pip install --no-cache-dir --no-deps /src/dist/*.whl

FROM python:3.12-slim
# libgomp is what the compiled llama.cpp needs beside the C++ library.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 cf \
    && install --directory --owner=cf --group=cf /models /home/cf/.config/cf-local
COPY --from=build /opt/cf-local /opt/cf-local
ENV PATH=/opt/cf-local/bin:$PATH HF_HOME=/models CF_LOCAL_CACHE=/models/cf-local PYTHONUNBUFFERED=1
USER cf
WORKDIR /home/cf
VOLUME /models
EXPOSE 8642
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8642/health', timeout=4)"]
# The key of the server comes from CF_LOCAL_API_KEY.
ENTRYPOINT ["cf-local"]
CMD ["serve", "--host", "0.0.0.0"]
